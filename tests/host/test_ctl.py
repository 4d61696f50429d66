"""dockerable/ctl with an engine: what its commands do, print and end with."""

import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
import yaml

from tests.support.compose import VERSIONS, Compose, find_compose, left_of, remove_project
from tests.support.docker import IMAGE, LABEL, docker, inspect, run, unique
from tests.support.stack import LOCAL
from tests.support.tree import Images, copy_tree
from tests.support.wait import free_port, wait_until

Done = subprocess.CompletedProcess[str]


class Ctl:
    """ctl of one tree, called from elsewhere, under a project name, port and image of its own."""

    def __init__(self, tree: Path, compose: Compose | None = None, image: str = IMAGE) -> None:
        self.tree, self.program = tree, tree / "dockerable/ctl"
        self.name, self.port, self.image = unique("ctl"), free_port(), image
        self.variables = {
            **(compose.variables if compose else {}),
            "COMPOSE_PROJECT_NAME": self.name,
            "HTTP_PORT": str(self.port),
            "IMAGE": image,
        }

    def __call__(self, *words: str, stdin: str = "", timeout: float = 120, **variables: str) -> Done:
        """Run it, whatever its exit status will be."""
        environment = {**self.variables, **variables}
        return run(self.program, *words, check=False, timeout=timeout, env=environment, cwd=Path("/"), stdin=stdin)

    def container(self) -> str:
        return docker("ps", "-aq", "--filter", f"label=com.docker.compose.project={self.name}")

    def add_environment(self, name: str, settings: str = "", **variables: str) -> None:
        """An environment like `local`, with further variables or settings of its own that are mounted."""
        folder = self.tree / "project/settings" / name
        folder.mkdir()
        file = yaml.safe_load(LOCAL.read_text())
        service = file["services"]["web"]
        service["environment"] |= variables
        if settings:
            (folder / "settings.py").write_text(settings)
            service["environment"]["DJANGO_SETTINGS_MODULE"] = f"project.settings.{name}.settings"
            service["volumes"].append(f".:/app/project/settings/{name}:ro")
        (folder / "docker-compose.yml").write_text(yaml.safe_dump(file))

    def remove(self) -> None:
        remove_project(self.name)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of the repository, in a folder with a space in its name."""
    return copy_tree(tmp_path / "my projects" / "site")


@pytest.fixture
def ctl(tree: Path) -> Iterator[Ctl]:
    ctl = Ctl(tree)
    yield ctl
    ctl.remove()


def make_repository(tree: Path) -> str:
    """Commit everything, with a remote that has a password in its address; the commit."""
    git = ("git", "-C", tree, "-c", "user.name=a", "-c", "user.email=a@b.test", "-c", "core.hooksPath=/dev/null")
    run(*git, "init", "-q")
    run(*git, "remote", "add", "origin", "https://user:password@git.example.com/site.git")
    run(*git, "add", "-A")
    run(*git, "commit", "-q", "-m", "all")
    return run(*git, "rev-parse", "HEAD").stdout.strip()


@pytest.mark.parametrize("version", VERSIONS)
def test_an_environment_goes_up_and_down(tree: Path, version: str) -> None:
    commit = make_repository(tree)
    ctl = Ctl(tree, find_compose(version), image=f"{unique('ctl')}:latest")
    try:
        up = ctl("up", "local", timeout=400)
        address = f"http://127.0.0.1:{ctl.port}/"
        assert (up.returncode, up.stdout) == (0, f"{address}\n"), up.stderr
        for phase in ("building the image", "starting local"):
            assert re.search(rf"^ctl: {phase}.*: done in \d+ s$", up.stderr, re.MULTILINE), up.stderr
        assert re.search(r"^ctl: local: healthy after \d+ s$", up.stderr, re.MULTILINE)
        assert httpx.get(address, trust_env=False).status_code == 200

        labels = inspect(ctl.image)["Config"]["Labels"]
        assert labels["org.opencontainers.image.revision"] == commit
        assert labels["org.opencontainers.image.version"] == commit[:7]
        assert labels["org.opencontainers.image.source"] == "https://git.example.com/site.git"

        listed = ctl("ps").stdout
        assert re.search(rf"^local +{ctl.name}[_-]web[_-]1 +Up .*:{ctl.port}->8080/tcp", listed, re.MULTILINE), listed
        assert "cmd: project.settings.local.settings serves" in ctl("logs", "local").stdout
        shell = ctl("sh", "local", stdin="id -u; pwd; echo $((6 * 7))\nexit 3\n")
        assert (shell.returncode, shell.stdout) == (3, "10001\n/app\n42\n"), shell.stderr
        manage = ctl("manage", "local", "shell", "--no-imports", "-c", "print('a  b')")
        assert (manage.returncode, manage.stdout) == (0, "a  b\n"), manage.stderr
        assert ctl("manage", "local", "nonsense").returncode == 1

        restart_by_its_policy(ctl)
        again = ctl("up", "local", "--no-build")
        assert (again.returncode, again.stdout) == (0, f"{address}\n"), again.stderr

        assert ctl("down", "local").returncode == 0
        assert len(left_of(ctl.name)) == 1
        gone = ctl("logs", "local")
        assert gone.returncode == 64 and "up local" in gone.stderr
        manage = ctl("manage", "local", "check")
        assert manage.returncode == 0 and "no issues" in manage.stdout + manage.stderr
        down = ctl("down", "local", "--volumes")
        assert (down.returncode, left_of(ctl.name)) == (0, []), down.stderr
    finally:
        ctl.remove()
        docker("rmi", "--no-prune", ctl.image, check=False)


def restart_by_its_policy(ctl: Ctl) -> None:
    """An earlier restart of a container that serves again must not make `up` fail."""
    container = ctl.container()
    docker("exec", container, "sh", "-c", "echo '70 asked by a test' >/run/failure; supervisorctl shutdown")
    wait_until(lambda: inspect(container)["RestartCount"] == 1 and inspect(container)["State"]["Running"])


def test_a_reload_serves_changed_settings_or_says_why_not(ctl: Ctl) -> None:
    settings = "from project.settings.local.settings import *\n"
    ctl.add_environment("prod", settings=settings)
    absent = ctl("reload", "prod")
    assert (absent.returncode, "up prod" in absent.stderr) == (64, True), absent.stderr
    assert re.search(r"compose -f .* exec -T web reload *$", ctl("--dry-run", "reload", "prod").stdout)
    assert ctl("reload", "prod", "now").returncode == 64
    assert ctl("up", "prod", "--no-build").returncode == 0
    file = ctl.tree / "project/settings/prod/settings.py"
    file.write_text(f"{settings}import nonesuch\n")
    refused = ctl("reload", "prod")
    assert refused.returncode == 78 and "No module named 'nonesuch'" in refused.stdout + refused.stderr
    file.write_text(f"{settings}ROOT_URLCONF = 'django.contrib.auth.urls'\n")
    done = ctl("reload", "prod")
    assert done.returncode == 0 and "workers replaced in" in done.stdout + done.stderr
    assert httpx.get(f"http://127.0.0.1:{ctl.port}/", trust_env=False).status_code == 404
    docker("stop", ctl.container())
    stopped = ctl("reload", "prod")
    assert (stopped.returncode, "prod is not running (remedy: " in stopped.stderr) == (64, True), stopped.stderr


def ended(ctl: Ctl) -> tuple[str, int]:
    """The container's state and exit status, as `docker ps -a` shows them."""
    state = inspect(ctl.container())["State"]
    return state["Status"], state["ExitCode"]


def test_an_environment_that_is_refused_ends_with_the_containers_status(ctl: Ctl) -> None:
    ctl.add_environment("refused", UWSGI_PROCESSES="abc")
    up = ctl("up", "refused", "--no-build")
    assert (up.returncode, up.stdout) == (64, ""), up.stderr
    assert up.stderr.count("cmd: error: UWSGI_PROCESSES") == 1, "the log of its first start and no more"
    assert up.stderr.splitlines()[-1].startswith("ctl: error: refused ended with status 64")
    assert (state := ended(ctl)) == ("exited", up.returncode), state


def test_an_application_that_does_not_load_ends_with_the_containers_status(ctl: Ctl) -> None:
    ctl.add_environment("broken", settings="import nonesuch\n")
    up = ctl("up", "broken", "--no-build")
    assert (up.returncode, up.stdout) == (70, ""), up.stderr
    assert "cmd: error: ModuleNotFoundError: No module named 'nonesuch'" in up.stderr
    assert (state := ended(ctl)) == ("exited", up.returncode), state


def test_an_environment_that_is_never_healthy_ends_with_75(ctl: Ctl) -> None:
    ctl.add_environment("sleepy", settings="import time\n\ntime.sleep(600)\n")
    up = ctl("up", "sleepy", "--no-build", "--timeout", "20")
    assert (up.returncode, up.stdout) == (75, ""), up.stderr
    assert "ctl: sleepy: the application is starting" in up.stderr
    assert "ctl: error: sleepy is not healthy after 20 s" in up.stderr
    assert "starting application" in up.stderr
    assert (state := ended(ctl)) == ("exited", up.returncode), state


def spoil_a_hash(tree: Path) -> None:
    path = tree / "requirements.txt"
    path.write_text(re.sub(r"sha256:\w{8}", "sha256:00000000", path.read_text()))


def spoil_the_settings(tree: Path) -> None:
    path = tree / "project/settings/base.py"
    path.write_text(path.read_text() + "\nthis is no Python\n")


def spoil_a_version(tree: Path) -> None:
    path = tree / "requirements.txt"
    path.write_text(re.sub(r"^django==\S+", "django==999.0", path.read_text(), flags=re.MULTILINE))


@pytest.mark.parametrize(
    ("spoil", "shown", "cause"),
    [
        (spoil_a_hash, "DO NOT MATCH THE HASHES", "a package is not what requirements.txt says"),
        (spoil_a_version, "No matching distribution found for django==999.0", "a version that does not exist"),
        (spoil_the_settings, "SyntaxError", "the project does not load"),
    ],
    ids=["hash", "version", "settings"],
)
def test_a_build_that_fails_shows_why(tree: Path, spoil: Callable[[Path], None], shown: str, cause: str) -> None:
    spoil(tree)
    images = Images()
    image = f"{unique('fails')}:latest"
    built = run(tree / "dockerable/ctl", "build", check=False, timeout=300, env={"IMAGE": image})
    assert (built.returncode, built.stdout) == (70, "")
    assert shown in built.stderr
    end = built.stderr.splitlines()[-1]
    assert re.match(rf"ctl: error: building the image {image} failed after \d+ s; likely cause: .*{cause}", end), end
    log = Path(end.rpartition("all of it: ")[2])
    images.learn(text := log.read_text())
    log.unlink()
    images.remove()
    containers = re.findall(r"Running in ([0-9a-f]{12})", text)
    assert containers and not set(containers) & set(docker("ps", "-aq").split()), "a step's container is left"


@pytest.mark.slow
def test_a_missing_base_is_made_of_debian_packages(tree: Path) -> None:
    """Without a registry ctl makes the base image; a second build uses it."""
    ctl = Ctl(tree, image=f"{unique('built')}:latest")
    base = f"{unique('base')}:trixie"
    ctl.program.write_text(ctl.program.read_text().replace("LOCAL_BASE=dockerable-base:trixie", f"LOCAL_BASE={base}"))
    (tree / "dockerable/Dockerfile").write_text(
        f"ARG BASE_IMAGE\nFROM ${{BASE_IMAGE}}\nLABEL {LABEL}\nRUN grep VERSION_CODENAME=trixie /etc/os-release\n"
    )
    try:
        nowhere = "127.0.0.1:9/none:latest"
        first = ctl("build", BASE_IMAGE=nowhere, timeout=300)
        assert first.returncode == 0, first.stderr
        assert f"ctl: {nowhere} can be neither found nor pulled" in first.stderr
        assert re.search(rf"making the base image {base} from Debian packages: done in \d+ s", first.stderr)
        second = ctl("build", BASE_IMAGE=nowhere)
        assert second.returncode == 0 and "making" not in second.stderr
        assert inspect(ctl.image)["RootFS"]["Layers"][0] == inspect(base)["RootFS"]["Layers"][0]
    finally:
        docker("rmi", ctl.image, check=False)
        docker("rmi", base, check=False)
