"""The image itself: its user, its files, and files that it must not have."""

import json
import re
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import pytest
from packaging.utils import canonicalize_name

from tests.support.docker import IMAGE, LABEL, docker, inspect, run, unique
from tests.support.requirement_files import pins
from tests.support.stack import Stack
from tests.support.tree import Images, base_image, copy_tree, host_ca

MEGABYTE = 1_000_000
LARGEST = 210 * MEGABYTE
BOOTSTRAPPED = "dockerable-base:trixie"
# Debian's certificate authorities and certifi's; any other came from the build host.
PUBLIC_AUTHORITIES = re.compile(
    r"usr/share/ca-certificates/mozilla/|etc/ssl/certs/|usr/lib/ssl/|.*/certifi/cacert\.pem$"
)
# Programs name the first line; something real goes on.
CERTIFICATE = re.compile(rb"-----BEGIN CERTIFICATE-----\s+[A-Za-z0-9+/]{40}")
PRIVATE_KEY = re.compile(rb"-----BEGIN [A-Z ]*PRIVATE KEY-----\s+[A-Za-z0-9+/=]{40}")
SECRET_KEY = re.compile(rb"SECRET_KEY[\"']?\s*[=:]\s*[\"'][^\"'{}]{8}")
IN_THE_IMAGE = {
    "implementation_name": "cpython",
    "implementation_version": "3.13.0",
    "os_name": "posix",
    "platform_machine": "x86_64",
    "platform_python_implementation": "CPython",
    "platform_release": "",
    "platform_system": "Linux",
    "platform_version": "",
    "python_full_version": "3.13.0",
    "python_version": "3.13",
    "sys_platform": "linux",
}
MARKER = "marker-of-a-secret-4c1d"
CATALOGUE = """msgid ""
msgstr "Content-Type: text/plain; charset=UTF-8\\n"

msgid "Yes, please"
msgstr "Ja, gern"
"""
TRANSLATE = """
from django.utils import translation
with translation.override("de"):
    print(translation.gettext("Yes, please"))
"""
SECRETS = (
    ".env",
    "id_rsa",
    "db.sqlite3",
    ".git/config",
    "var/data/secret_key",
    "tests/secret.py",
    "project/settings/.env",
    "project/settings/prod/settings.py",
    "project/settings/prod/secrets.json",
    "project/settings/prod/letsencrypt/live/a/privkey.pem",
    "project/settings/local/secrets.json",
    "project/settings/local/.env",
    "project/settings/local/letsencrypt/live/a/privkey.pem",
    "project/secrets.json",
    "project/secrets-prod.json",
)
# Each module that Python could import and that has no bytecode, or bytecode that looks at its source first.
STALE = """
import importlib.util, pathlib, sys
checked = 0
for root in sys.argv[1:]:
    for source in pathlib.Path(root).rglob("*.py"):
        compiled = pathlib.Path(importlib.util.cache_from_source(str(source)))
        flags = compiled.read_bytes()[4:8] if compiled.exists() else b""
        checked += 1
        if flags != b"\\1\\0\\0\\0":
            print(source, flags)
print(checked)
"""
DISTRIBUTIONS = """
import importlib.metadata, json, sys
found = importlib.metadata.distributions(path=sys.argv[1:])
print(json.dumps({one.name: one.version for one in found}))
"""


@pytest.fixture(scope="module")
def inside() -> Iterator[Callable[..., str]]:
    """Runs a command as root in a container of the image that serves nothing."""
    name = unique("image")
    docker("run", "-d", "--name", name, "--label", LABEL, "--network", "none", "-u", "0", IMAGE, "sleep", "600")
    yield lambda *words: docker("exec", name, *words)
    docker("rm", "-f", name)


def layer_files(image: str, place: Path) -> Iterator[tuple[str, bytes]]:
    """Path and content of each file in each layer, and of the image's own description; `place` is an empty folder."""
    archive = place / "image.tar"
    docker("save", "-o", archive, image)
    with tarfile.open(archive) as whole:
        (manifest,) = json.load(read(whole, "manifest.json"))
        yield manifest["Config"], read(whole, manifest["Config"]).read()
        for layer in manifest["Layers"]:
            with tarfile.open(fileobj=read(whole, layer)) as files:
                for member in files:
                    if content := files.extractfile(member) if member.isreg() else None:
                        yield member.name, content.read()
    archive.unlink()


def read(archive: tarfile.TarFile, name: str) -> IO[bytes]:
    file = archive.extractfile(name)
    assert file, f"{name} is no file"
    return file


def test_its_user_is_not_root_and_its_command_is_plain() -> None:
    config = inspect(IMAGE)["Config"]
    assert config["User"] == "10001:0"
    assert config.get("Entrypoint") is None
    assert config["Cmd"] == ["/app/dockerable/cmd.sh"]
    assert config["StopSignal"] == "SIGTERM"
    assert set(config["ExposedPorts"]) == {"8080/tcp", "8443/tcp"}
    assert config["Healthcheck"]["Test"] == ["CMD", "healthcheck"]
    assert not config.get("Volumes")


def test_any_command_can_be_run_in_it() -> None:
    assert docker("run", "--rm", "--label", LABEL, IMAGE, "sh", "-c", "id -u; id -g; umask") == "10001\n0\n0022"
    assert docker("run", "--rm", "--label", LABEL, IMAGE, "certbot", "--version").startswith("certbot ")


def test_its_labels_say_what_it_is() -> None:
    labels = inspect(IMAGE)["Config"]["Labels"]
    names = ("title", "source", "revision", "version", "licenses")
    assert {f"org.opencontainers.image.{name}" for name in names} <= set(labels)
    assert labels["org.opencontainers.image.title"] == "dockerable"
    assert labels["org.opencontainers.image.licenses"] == "MIT"


def test_it_is_small() -> None:
    if BOOTSTRAPPED not in docker("images", "--format", "{{.Repository}}:{{.Tag}}").split():
        pytest.skip(f"{BOOTSTRAPPED} is not here")
    image, base = inspect(IMAGE), inspect(BOOTSTRAPPED)
    if image["RootFS"]["Layers"][0] != base["RootFS"]["Layers"][0]:
        pytest.skip("it was built from another base")
    assert image["Size"] <= LARGEST


def test_it_cannot_compile_or_install(inside: Callable[..., str]) -> None:
    packages = inside("dpkg-query", "-W", "-f", "${Package}\n").split()
    tools = re.compile(
        r"(gcc(?!-\d+-base)|g\+\+|cpp|clang|binutils|make|python3-(pip|venv|setuptools))([0-9-].*)?$|.*-dev$"
    )
    assert [name for name in packages if tools.match(name)] == []
    commands = "gcc cc g++ cpp clang ld as make pip pip3 git"
    assert inside("sh", "-c", f"for name in {commands}; do command -v $name || :; done") == ""
    assert (
        inside("find", "/opt", "/usr/include", "-name", "Python.h", "-o", "-name", "stdio.h", "-o", "-name", "pip")
        == ""
    )


def test_no_program_runs_as_somebody_else(inside: Callable[..., str]) -> None:
    assert inside("find", "/", "-xdev", "-type", "f", "-perm", "/6000") == ""
    # File capabilities do the same.
    xattrs = "import os; print([f for d, _, fs in os.walk('/usr') for f in (os.path.join(d, n) for n in fs)"
    xattrs += " if 'security.capability' in os.listxattr(f, follow_symlinks=False)])"
    assert inside("python3", "-c", xattrs) == "[]"


def test_nobody_may_write_where_files_are_kept(inside: Callable[..., str]) -> None:
    everybody = inside("find", "/", "-xdev", "-perm", "-0002", "!", "-type", "l")
    assert set(everybody.split()) <= {"/tmp", "/var/tmp", "/run/lock"}
    group = inside("find", "/", "-xdev", "-group", "0", "-perm", "-0020", "!", "-type", "l")
    assert set(group.split()) <= {"/tmp", "/var/tmp", "/run/lock", "/run", "/data", "/etc/letsencrypt"}
    assert inside("find", "/", "-xdev", "-uid", "10001") == ""


def test_the_places_that_are_written_have_group_0(inside: Callable[..., str]) -> None:
    assert inside("stat", "-c", "%n %a %g", "/run", "/data") == "/run 770 0\n/data 2770 0"


def test_it_holds_what_runs_and_nothing_else(inside: Callable[..., str]) -> None:
    assert set(inside("ls", "-A", "/app").split()) <= {
        "__pycache__", "dockerable", "manage.py", "project", "requirements.txt",
    }  # fmt: skip
    settings = inside("find", "/app/project/settings", "-mindepth", "1", "-type", "d", "!", "-path", "*__pycache__*")
    assert settings == "/app/project/settings/local"
    unwanted = (
        ".git*",
        ".env",
        "*.yml",
        "*Dockerfile*",
        "secrets*.json",
        "*.sqlite3",
        "*.pem",
        "*.md",
        "*.in",
        "ctl",
        "host",
    )
    names = [word for name in unwanted for word in ("-o", "-name", name)][1:]
    assert inside("find", "/app", *names) == ""


def test_no_layer_holds_a_secret_or_the_hosts_certificate_authority(tmp_path: Path) -> None:
    mine = [line.encode() for line in host_ca().splitlines() if re.fullmatch(r"[A-Za-z0-9+/]{64}", line)]
    found = []
    for name, content in layer_files(IMAGE, tmp_path):
        if CERTIFICATE.search(content) and not PUBLIC_AUTHORITIES.match(name):
            found.append(f"{name}: a certificate")
        if any(line in content for line in mine):
            found.append(f"{name}: the host's certificate authority")
        if PRIVATE_KEY.search(content):
            found.append(f"{name}: a private key")
        if SECRET_KEY.search(content) and "/tests" not in name:
            found.append(f"{name}: a SECRET_KEY")
    assert found == []


def test_the_certificate_authorities_are_debians(inside: Callable[..., str]) -> None:
    assert inside("find", "/usr/local/share/ca-certificates", "-type", "f") == ""
    assert inside("sh", "-c", "grep -c BEGIN /etc/ssl/certs/ca-certificates.crt") == inside(
        "sh", "-c", "cat /usr/share/ca-certificates/mozilla/*.crt | grep -c BEGIN"
    )


def test_no_build_argument_is_kept() -> None:
    history = docker("history", "--no-trunc", "--format", "{{.CreatedBy}}", IMAGE)
    assert "BEGIN CERTIFICATE" not in history
    assert "HOST_CA" not in history


def test_bytecode_needs_no_look_at_its_source(inside: Callable[..., str]) -> None:
    *stale, checked = inside("python3", "-c", STALE, "/usr/lib/python3.13", "/opt", "/app").splitlines()
    assert stale == []
    assert int(checked) > 1000


@pytest.mark.parametrize(
    ("environment", "compiled", "name", "other"),
    [
        ("/opt/app", "requirements.txt", "django", "supervisor"),
        ("/opt/dockerable", "dockerable/build/requirements-tools.txt", "supervisor", "django"),
    ],
)
def test_an_environment_holds_its_requirements_and_nothing_else(
    inside: Callable[..., str], environment: str, compiled: str, name: str, other: str
) -> None:
    packages = f"{environment}/lib/python3.13/site-packages"
    found = json.loads(inside("python3", "-IS", "-c", DISTRIBUTIONS, packages))
    wanted = {
        pinned: requirement
        for pinned, (requirement, _, _) in pins(compiled).items()
        if requirement.marker is None or requirement.marker.evaluate(IN_THE_IMAGE)
    }
    assert {canonicalize_name(name) for name in found} == set(wanted)
    assert all(wanted[canonicalize_name(name)].specifier.contains(version) for name, version in found.items())
    importable = f"import importlib.util as u; print(bool(u.find_spec('{name}')), bool(u.find_spec('{other}')))"
    assert inside(f"{environment}/bin/python3", "-c", importable) == "True False"


def test_uwsgi_runs_in_debians_python_without_libpython(inside: Callable[..., str]) -> None:
    linked = inside("sh", "-c", "ldd /opt/app/lib/python3*/site-packages/pyuwsgi.so")
    assert "libpython" not in linked
    assert "not found" not in linked
    assert inside("find", "/usr/lib", "/opt", "-name", "libpython*.so*") == ""
    assert inside("sh", "-c", "ls /opt/dockerable/lib/python3*/site-packages | grep -c uwsgi || :") == "0"


def test_the_projects_own_tests_pass_in_it(new_stack: Callable[[Stack], Stack]) -> None:
    stack = new_stack(Stack(command=["manage", "test", "--no-color"]))
    status = stack.start().wait_end(60)
    assert status == 0, stack.logs()
    assert re.search(r"^Ran [1-9]\d* tests in .*\n\nOK", stack.logs(), re.MULTILINE)


def test_it_knows_the_old_names_of_time_zones(inside: Callable[..., str]) -> None:
    names = ("Japan", "US/Eastern", "Asia/Calcutta", "Europe/Kiev")
    code = f"import zoneinfo; print(*map(zoneinfo.ZoneInfo, {names}))"
    assert inside("/opt/app/bin/python3", "-c", code).split() == list(names)


@pytest.fixture(scope="module")
def private_checkout(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An image of a checkout made under umask 077, with Windows line ends, secrets, and a translation as .po only."""
    tree = copy_tree(tmp_path_factory.mktemp("checkout") / "tree")
    for name in SECRETS:
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text(f"# {MARKER}\n")
    catalogue = tree / "project/start/locale/de/LC_MESSAGES/django.po"
    catalogue.parent.mkdir(parents=True)
    catalogue.write_text(CATALOGUE)
    for path in tree.rglob("*"):
        # What the slow steps copy stays as it is, so that Docker's cache has them.
        if path.parent == tree / "dockerable/build" or path == tree / "requirements.txt":
            continue
        path.chmod(0o700 if path.is_dir() else 0o600)
        if path.is_file() and path.is_relative_to(tree / "dockerable"):
            path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    images, tag = Images(), f"{unique('private')}:latest"
    images.tags.append(tag)
    arguments = {"BASE_IMAGE": base_image(), "HOST_CA": host_ca()}
    words = [word for name in arguments for word in ("--build-arg", name)]
    try:
        dockerfile = tree / "dockerable/Dockerfile"
        build = run(
            "docker",
            "build",
            "--force-rm",
            "-f",
            dockerfile,
            "-t",
            tag,
            *words,
            tree,
            env={"DOCKER_BUILDKIT": "0", **arguments},
            timeout=600,
            check=False,
        )
        images.learn(build.stdout)
        assert build.returncode == 0, build.stdout + build.stderr
        yield tag
    finally:
        images.remove()


def test_a_checkout_that_lost_modes_and_line_ends_serves_and_keeps_its_secrets(
    private_checkout: str, new_stack: Callable[[Stack], Stack]
) -> None:
    stack = new_stack(Stack(image=private_checkout)).up()
    page = stack.get("/")
    assert page.status_code == 200
    (style,) = re.findall(r'href="(/static/[^"]+\.css)"', page.text)
    assert stack.get(style).status_code == 200
    assert stack.exec("grep", "-rlF", MARKER, "/app", "/opt", "/srv", "/etc", check=False) == ""
    # Of the translation only the source was there.
    assert stack.exec("manage", "shell", "--no-imports", "-c", TRANSLATE) == "Ja, gern"
