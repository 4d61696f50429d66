"""Refused starts: exit status and last line of the container; nothing is left running, and no secret is logged.

The containers run side by side before the first test, since most of the time of each is the engine's.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.support.docker import LABEL, ROOT, docker, unique
from tests.support.environments import EXAMPLE, LOCAL, MODULE, settings_folder
from tests.support.stack import Stack

# Part of secrets; it must not appear in a log.
SECRET = "val-5c1e7f"
NO_UWSGI = "[uwsgi]\nstrict = true\nnonsense = true\n"
SUPERVISOR = (ROOT / "dockerable/supervisor-app.conf").read_text()
PROD = {"DJANGO_SETTINGS_MODULE": MODULE}
FILL_RUN = """with open("/run/full", "wb", 0) as full:
    try:
        while True:
            full.write(bytes(65536))
    except OSError:
        pass
"""


@dataclass(frozen=True)
class Refusal:
    """A start: the expected exit status and words of the last line, and the fault that causes them."""

    status: int
    words: tuple[str, ...]
    # Files of the environment `prod`; None: it is not mounted.
    files: dict[str, str] | None = None
    variables: Mapping[str, str | None] = field(default_factory=dict)
    # Done to that folder, and by root to the data volume.
    change: Callable[[Path], object] = lambda folder: None
    data: str = ""
    mounts: dict[str, str] = field(default_factory=dict)
    options: tuple[str, ...] = ("--tmpfs", "/data:mode=2770")
    command: tuple[str, ...] = ()
    # Words that must be somewhere in the log, and how often supervisord may start the application.
    also: tuple[str, ...] = ()
    starts: int = 1
    # The words of the last line where the machine is so busy that supervisord's judgement comes too late.
    late: tuple[str, ...] = ()


def secrets(status: int, *words: str, content: str, **more: object) -> Refusal:
    """A secrets.json that is wrong; every message about it names the file."""
    return Refusal(status, ("project/settings/prod/secrets.json", *words), {"secrets.json": content}, PROD, **more)  # type: ignore[arg-type]


REFUSALS = {
    # First what takes longest.
    "a program that cannot start": Refusal(
        70,
        ("application cannot be kept running", "ended with status 1"),
        # On a busy machine it may take longer than the image's own startsecs to fail, which is the next case.
        mounts={"uwsgi.ini": NO_UWSGI, "supervisor-app.conf": SUPERVISOR.replace("startsecs = 8", "startsecs = 60")},
        also=("unknown config directive: nonsense",),
        starts=3,
        late=("application failed 5 times in a row, the last time it ended with status 1",),
    ),
    "a program that fails later than supervisord looks": Refusal(
        70,
        ("application failed 5 times in a row, the last time it ended with status 1",),
        mounts={"uwsgi.ini": NO_UWSGI, "supervisor-app.conf": SUPERVISOR.replace("startsecs = 8", "startsecs = 0")},
        starts=5,
    ),
    "a variable that is not set": Refusal(
        64,
        ("NGINX_SERVER_NAME is not set (example: www.example.com)",),
        variables={"NGINX_SERVER_NAME": None},
        starts=0,
    ),
    "a variable that is no option of uWSGI's": Refusal(
        64,
        ("UWSGI_MAX_REQUEST is no option of this image's uWSGI: did you mean UWSGI_MAX_REQUESTS?",),
        variables={"UWSGI_MAX_REQUEST": "5000"},
        starts=0,
    ),
    "a value that uWSGI refuses": Refusal(
        64,
        ("uWSGI refuses UWSGI_CHEAPER: invalid cheaper value: must be lower than processes",),
        variables={"UWSGI_PROCESSES": "2", "UWSGI_CHEAPER": "2"},
        starts=0,
    ),
    "a role that does not exist": Refusal(
        64,
        ("'worker' is no role: web, nginx, application or certificate",),
        command=("/app/dockerable/cmd.sh", "worker"),
        starts=0,
    ),
    "an environment that is not mounted": Refusal(
        66,
        ("/app/project/settings/prod does not exist", "volumes: ['.:/app/project/settings/prod:ro']"),
        variables=PROD,
        starts=0,
    ),
    "an environment without settings.py": Refusal(
        66,
        ("/app/project/settings/prod/settings.py does not exist",),
        {},
        PROD,
        lambda folder: (folder / "settings.py").unlink(),
        starts=0,
    ),
    "an environment's folder that may not be entered": Refusal(
        66,
        ("/app/project/settings/prod cannot be entered by uid 10001", "sudo chmod -R g+rX"),
        {},
        PROD,
        lambda folder: folder.chmod(0o700),
        starts=0,
    ),
    "settings that may not be read": Refusal(
        66,
        ("settings.py cannot be read by uid 10001", "sudo chmod -R g+rX"),
        {},
        PROD,
        lambda folder: (folder / "settings.py").chmod(0o600),
        starts=0,
    ),
    "settings of a package that is not there": Refusal(
        66,
        ("DJANGO_SETTINGS_MODULE names nowhere.settings: No module named 'nowhere'",),
        variables={"DJANGO_SETTINGS_MODULE": "nowhere.settings"},
    ),
    "settings with a syntax error": Refusal(
        65, ("prod/settings.py, line 2: '(' was never closed",), {"settings.py": "A = 1\nB = (\n"}, PROD, starts=0
    ),
    "settings that do not import": Refusal(
        70,
        ("No module named 'nowhere_at_all' (/app/project/settings/prod/settings.py, line 1)",),
        {"settings.py": "import nowhere_at_all\n"},
        PROD,
        also=("Traceback (most recent call last)",),
    ),
    "settings that exit": Refusal(
        70,
        ("SystemExit: 3 (/app/project/settings/prod/settings.py, line 2)",),
        {"settings.py": "import sys\nsys.exit(3)\n"},
        PROD,
    ),
    "settings that raise what is no Exception": Refusal(
        70,
        ("Odd: as the test asked (/app/project/settings/prod/settings.py, line 2)",),
        {"settings.py": "class Odd(BaseException): ...\nraise Odd('as the test asked')\n"},
        PROD,
    ),
    "a failure for which /run has no room": Refusal(
        70,
        ("/run/failure, which says why the container ended, cannot be read: see the errors above (remedy: room",),
        {"settings.py": FILL_RUN + "raise RuntimeError('as the test asked')\n"},
        PROD,
        also=("RuntimeError: as the test asked (/app/project/settings/prod/settings.py, line 7)",),
    ),
    "no secrets.json": Refusal(66, ("prod/secrets.json is missing", "SECRET_KEY"), {}, PROD),
    "secrets that are not JSON": secrets(65, "not JSON at line 2, column 26", content=f'{{\n"SECRET_KEY": "{SECRET}\n'),
    "secrets with a byte order mark": secrets(65, "byte order mark", "sed -i", content="\ufeff{}"),
    "a key missing": secrets(78, "SECRET_KEY is not set: put it into", content="{}"),
    "a key that does not exist": secrets(
        65, "unknown key SECRETKEY: did you mean SECRET_KEY?", content=f'{{"SECRETKEY": "{SECRET}"}}'
    ),
    "a key empty": secrets(65, "SECRET_KEY in", "is empty", content='{"SECRET_KEY": ""}'),
    "values of the wrong type": secrets(
        65,
        "SECRET_KEY in project/settings/prod/secrets.json should be text",
        "DEBUG in project/settings/prod/secrets.json should be true or false",
        content=json.dumps({"SECRET_KEY": [SECRET], "DEBUG": SECRET}),
    ),
    "secrets that may not be read": secrets(
        66,
        "not readable by uid 10001",
        "chmod g+rX",
        content=f'{{"SECRET_KEY": "{SECRET}"}}',
        change=lambda folder: (folder / "secrets.json").chmod(0o600),
    ),
    "the placeholder as a key": secrets(78, "is the placeholder", content='{"SECRET_KEY": "change-me"}'),
    "settings nobody may serve the public with": Refusal(
        78,
        (
            *("DEBUG is on", "SILENCED_SYSTEM_CHECKS = ['security.W018']"),
            *("ALLOWED_HOSTS holds '*'", "SILENCED_SYSTEM_CHECKS = ['dockerable.E001']"),
            *("SECRET_KEY is short or predictable", "SILENCED_SYSTEM_CHECKS = ['security.W009']"),
        ),
        {"secrets.json": json.dumps({"SECRET_KEY": SECRET, "DEBUG": True, "ALLOWED_HOSTS": ["*"]})},
        PROD,
    ),
    "hosts that fit no name of the site": Refusal(
        78,
        (
            "ALLOWED_HOSTS = ['localhost,127.0.0.1'] allows no name of NGINX_SERVER_NAME",
            "write ['www.example.com', '.example.org'] in settings.py, or www.example.com .example.org in the variable",
            "SILENCED_SYSTEM_CHECKS = ['dockerable.E002']",
        ),
        variables={"NGINX_SERVER_NAME": "www.example.com *.example.org", "ALLOWED_HOSTS": "localhost,127.0.0.1"},
    ),
    "an import error in urls.py": Refusal(
        70,
        ("No module named 'nowhere_at_all' (/app/project/settings/prod/urls.py, line 2)",),
        {
            "settings.py": f"{LOCAL}ROOT_URLCONF = 'project.settings.prod.urls'\n",
            "urls.py": "urlpatterns = []\nimport nowhere_at_all\n",
        },
        PROD,
    ),
    "an import error in wsgi.py": Refusal(
        70,
        ("RuntimeError: two lines (/app/project/settings/prod/wsgi.py, line 1)",),
        {
            "settings.py": f"{LOCAL}WSGI_APPLICATION = 'project.settings.prod.wsgi.application'\n",
            "wsgi.py": "raise RuntimeError('two\\nlines')\n",
        },
        PROD,
    ),
    "nginx configuration that nginx refuses": Refusal(
        78,
        ("nginx refuses its configuration", 'unknown directive "nonsense"'),
        mounts={"nginx/limits.conf": "nonsense on;\n"},
        starts=0,
    ),
    "no data volume": Refusal(73, ("/data is on a read-only file system", "data:/data"), options=(), starts=0),
    "a data volume that may not be written": Refusal(
        73,
        ("/data cannot be written by uid 10001", "chgrp -R 0 /data"),
        data="touch /data/a; chmod 755 /data",
        starts=0,
    ),
    "uploads that may not be written": Refusal(
        73, ("/data/media cannot be written by uid 10001",), data="install -d -m 700 /data/media", starts=0
    ),
    "a link in place of the uploads": Refusal(
        73,
        ("/data/media is a link to '/data'", "docker run --rm -u 0 -v VOLUME:/data IMAGE rm /data/media;"),
        data="ln -s /data /data/media",
        starts=0,
    ),
    "a database that a link publishes": Refusal(
        78,
        (
            "/data/db.sqlite3 is '/data/media/x', which nginx serves to everybody",
            "mv -T /data/media/x /data/db.sqlite3",
        ),
        data="install -d -m 2770 /data/media; touch /data/media/x; ln -s media/x /data/db.sqlite3",
    ),
    "a database file that may not be written": Refusal(
        73,
        ("/data/db.sqlite3 cannot be written by uid 10001", "chgrp -R 0 /data"),
        data="install -m 640 /dev/null /data/db.sqlite3",
    ),
    "a database file in the folder of the code": Refusal(
        73,
        (
            "the database /app/db.sqlite3 cannot be written: Read-only file system",
            "DATABASE_URL=sqlite:////data/db.sqlite3",
        ),
        variables={"DATABASE_URL": "sqlite:///db.sqlite3"},
    ),
    "root": Refusal(64, ("not as uid 0", "--user 10001:0"), options=("--user", "0"), starts=0),
    "a PATH without our programs": Refusal(
        64,
        ("PATH=/usr/bin:/bin lacks /app/dockerable/bin", "do not set PATH"),
        variables={"PATH": "/usr/bin:/bin"},
        starts=0,
    ),
    "too few open files": Refusal(
        78,
        ("nofile=64 open files are too few, 128 are needed", "ulimits: {nofile: 4096}"),
        options=("--tmpfs", "/data:mode=2770", "--ulimit", "nofile=64:64"),
        starts=0,
    ),
    "no open file for init": Refusal(
        70,
        ("init cannot start: OSError: [Errno 24] Too many open files", "ulimits: {nofile: 4096}"),
        options=("--ulimit", "nofile=12:12"),
        starts=0,
    ),
    "no second process": Refusal(
        70, ("init cannot start: ", "a higher --pids-limit"), options=("--pids-limit", "1"), starts=0
    ),
    "a wrong variable and wrong secrets": Refusal(
        64,
        ("SECRET_KEY in project/settings/prod/secrets.json is empty",),
        {"secrets.json": '{"SECRET_KEY": ""}'},
        {**PROD, "UWSGI_PROCESSES": "abc"},
        also=("UWSGI_PROCESSES='abc' must be a whole number from 1 to 512",),
        starts=0,
    ),
}


def end_of(refusal: Refusal, folder: Path) -> tuple[int, str]:
    """Run it to its end: exit status and log."""
    mounts = []
    if refusal.files is not None:
        mounts = settings_folder(folder / "prod", refusal.files)
        refusal.change(folder / "prod")
    for name, content in refusal.mounts.items():
        file = folder / Path(name).name
        file.parent.mkdir(exist_ok=True)
        file.write_text(content)
        mounts.append(f"{file}:/app/dockerable/{name}:ro")
    volume = unique("data") if refusal.data else "none"
    options = () if refusal.data else refusal.options
    stack = Stack(refusal.variables, mounts=mounts, options=options, command=refusal.command, volume=volume)
    try:
        if refusal.data:
            docker("volume", "create", "--label", LABEL, volume)
            words = ("--label", LABEL, "--user", "0", "-v", f"{volume}:/data", stack.image, "sh", "-c", refusal.data)
            docker("run", "--rm", *words)
        return stack.start().wait_end(200), stack.logs()
    finally:
        stack.remove()
        if refusal.data:
            docker("volume", "rm", "-f", volume)


@pytest.fixture(scope="module")
def ends(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable]:
    """The end of each refusal that a selected test asks for, by its name."""
    items = (item for item in request.session.items if isinstance(item, pytest.Function))
    selected = [item for item in items if item.path == request.path and "ends" in item.fixturenames]
    chosen = {item.callspec.params["name"] for item in selected}
    with ThreadPoolExecutor(3) as pool:
        running = {
            name: pool.submit(end_of, refusal, tmp_path_factory.mktemp("environment"))
            for name, refusal in REFUSALS.items()
            if name in chosen
        }
        yield lambda name: running[name].result()


@pytest.mark.parametrize("name", REFUSALS)
def test_a_start_is_refused_with_its_cause_as_the_last_line(name: str, ends: Callable) -> None:
    refusal = REFUSALS[name]
    status, log = ends(name)
    assert status == refusal.status, log
    last = log.rstrip().rpartition("\n")[2]
    assert last.startswith("cmd: error: "), log
    # One that takes longer than startsecs to fail, on a busy machine, is started up to five times.
    starts = log.count("supervisor: starting application")
    assert refusal.starts <= starts <= (5 if refusal.starts > 1 else refusal.starts), log
    for words in refusal.late if refusal.late and starts == 5 else refusal.words:
        assert words in last, log
    for words in refusal.also:
        assert words in log, log
    assert SECRET not in log


def test_all_errors_are_listed_at_once_and_nothing_is_rendered(new_stack: Callable[[Stack], Stack]) -> None:
    variables = {
        "NGINX_SERVER_NAME": "a.test; } server { listen 81",
        "UWSGI_PROCESSES": "0",
        "RUN_MIGRATIONS": "ture",
        "NGINX_CLIENT_MAX_BODY_SIZE": "10q",
        "TRUSTED_PROXIES": "0.0.0.0/0",
        **PROD,
    }
    script = "/app/dockerable/cmd.sh; echo status=$?; ls -A /run"
    stack = new_stack(Stack(variables, volume="none", command=["sh", "-c", script]))
    stack.allowed = ["^cmd: error: "]
    assert stack.start().wait_end() == 0
    *errors, status, verdict, made = stack.logs().splitlines()
    assert (status, verdict, made) == ("status=64", "health.json", "log")
    for words in [*variables, "/app/project/settings/prod does not exist", "/data is on a read-only file system"]:
        assert any(words in line for line in errors), words
    assert all(line.startswith("cmd: error: ") for line in errors)


def test_in_json_the_traceback_of_settings_that_do_not_import_is_a_field(
    new_stack: Callable[[Stack], Stack], tmp_path: Path
) -> None:
    mounts = settings_folder(tmp_path / "prod", {"settings.py": "import nowhere_at_all\n"})
    stack = new_stack(Stack({**PROD, "LOG_FORMAT": "json"}, mounts=mounts))
    stack.allowed = ["nowhere_at_all", "application ended with status 70"]
    assert stack.start().wait_end() == 70
    records = [json.loads(line) for line in stack.logs().splitlines()]
    (failed,) = [record for record in records if "error.stack_trace" in record]
    assert (failed["event.dataset"], failed["message"]) == ("django", "the project failed")
    assert failed["error.type"] == "ModuleNotFoundError"
    assert failed["error.stack_trace"].startswith("Traceback (most recent call last):\n")
    assert (records[-1]["event.dataset"], records[-1]["log.level"]) == ("cmd", "error")


def test_what_is_refused_starts_where_its_checks_are_silenced_by_name(
    new_stack: Callable[[Stack], Stack], tmp_path: Path
) -> None:
    insecure = {"SECRET_KEY": SECRET, "DEBUG": True, "ALLOWED_HOSTS": ["*"]}
    silenced = f"{EXAMPLE}\nSILENCED_SYSTEM_CHECKS = ['security.W009', 'security.W018', 'dockerable.E001']\n"
    files = {"settings.py": silenced, "secrets.json": json.dumps(insecure)}
    stack = new_stack(Stack(PROD, mounts=settings_folder(tmp_path / "prod", files)))
    public = "secrets.json is readable by everyone: chmod o-rwx project/settings/prod/secrets.json"
    stack.allowed = [public]
    stack.up()
    assert stack.get().status_code == 200
    assert stack.logs().count(public) == 1
    assert SECRET not in stack.logs()
