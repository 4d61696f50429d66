"""A broken container is unhealthy, ends with 70 and logs why; one that is busy, or waits for a database, goes on.

Most of the containers run side by side, since most of their time is waiting.
"""

import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass

import pytest

from dockerable.container import watchdog
from tests.support.docker import LABEL, docker, run, unique
from tests.support.environments import LOCAL, MODULE, settings_folder
from tests.support.load import load
from tests.support.stack import WORKERS_DIE, Stack
from tests.support.tree import helper_image
from tests.support.wait import wait_until

NewStack = Callable[[Stack], Stack]
TIMEOUT = 12
VARIABLES: dict[str, str | None] = {
    "UWSGI_HARAKIRI": "2",
    "WATCHDOG_TIMEOUT": str(TIMEOUT),
    "UWSGI_PROCESSES": "2",
}
# Two questions and a little more, on a machine that does much else.
SOON = TIMEOUT + 110
# In a worker, and only after /data/crash is there: it dies, and so does every one that takes its place.
CRASHING = f"""{LOCAL}
import contextlib, os, signal, threading, time
from pathlib import Path

def crash():
    while not Path("/data/crash").exists():
        time.sleep(0.05)
    os.kill(os.getpid(), signal.SIGKILL)

with contextlib.suppress(ImportError):
    import uwsgi
    threading.Thread(target=crash, daemon=True).start()
"""
WORKERS = "import json, socket; s = socket.socket(1); s.connect('/run/uwsgi-stats.sock')\n"
WORKERS += "import os\nfor w in json.loads(s.makefile().read())['workers']: os.kill(w['pid'], 19)"
STOP_UWSGI = "kill -STOP $(supervisorctl pid application)"
STOP_SUPERVISORD = "kill -STOP $(cat /run/supervisord.pid)"
KILL_NGINX = "kill -9 $(cat /run/nginx.pid)"
# Supervisor's judgement, or ours where the machine is slow.
FAILED = "(cannot be kept running|failed 5 times in a row|ended 10 times within 120 s)"
SILENT = r"the site has not answered for \d+ s, "


@dataclass(frozen=True)
class Broken:
    """What is done to a healthy container, and the words of the last line with which it then ends with 70."""

    last_line: str
    command: tuple[str, ...] = ()
    again: bool = False
    settings: str = ""
    options: tuple[str, ...] = ()


BROKEN = {
    "everything stopped and /run full": Broken(
        SILENT + "uWSGI does not answer either", ("sh", "-c", "cat /dev/zero >/run/full; kill -STOP -1")
    ),
    "the workers stopped": Broken(SILENT + "uWSGI's workers finish nothing", ("python3", "-c", WORKERS)),
    "the workers crash": Broken(
        SILENT + "uWSGI('s workers finish nothing| does not answer either)", ("touch", "/data/crash"), settings=CRASHING
    ),
    "uWSGI's master stopped, while its workers serve on": Broken(
        r"for \d+ s uWSGI's master has not answered, so no slow request is ended", ("sh", "-c", STOP_UWSGI)
    ),
    "supervisord stopped, while the site is served": Broken(
        r"for \d+ s supervisord has been stopped", ("sh", "-c", STOP_SUPERVISORD)
    ),
    "nginx is killed at each start": Broken(
        f"nginx {FAILED}, the last time it was killed by signal 9$", ("sh", "-c", KILL_NGINX), again=True
    ),
    "an application larger than its memory": Broken(
        f"application {FAILED}, the last time it was killed for want of memory .limit 128 MB",
        settings=f"{LOCAL}\nLARGE = b'x' * (200 << 20)\n",
        options=("--memory", "128m", "--memory-swap", "128m"),
    ),
}


@dataclass(frozen=True)
class End:
    status: int
    last_line: str
    unhealthy: str  # what the health check said first when it failed


def wait_served(stack: Stack) -> None:
    """Until a page is served; many commands at once inside containers would keep them from it."""
    wait_until(lambda: stack.get().status_code == 200, 120, every=0.5)


def said_unhealthy(stack: Stack) -> str:
    """What the health check says if it fails; empty if it does not, or does not run."""
    asked = run("docker", "exec", stack.name, "healthcheck", check=False)
    return asked.stdout.strip() if asked.returncode == 1 else ""


def end(stack: Stack, broken: Broken) -> End:
    """Break it, and see how it ends."""
    unhealthy = ""
    if broken.command:
        wait_served(stack)
        stack.exec(*broken.command, check=False)

    def ended() -> bool:
        nonlocal unhealthy
        if stack.state()["Status"] == "exited":
            return True
        if broken.again:
            stack.exec(*broken.command, check=False)
        elif not unhealthy and broken.command:
            unhealthy = said_unhealthy(stack)
        return False

    wait_until(ended, SOON, every=0.5)
    return End(int(stack.state()["ExitCode"]), stack.last_line(), unhealthy)


Ends = dict[str, Future[End]]


def frozen(stack: Stack) -> End:
    """Freeze all programs while the watchdog is off; look after a while at the verdict, and whether it still runs."""
    stack.exec("sh", "-c", "kill -STOP -1", check=False)
    began = time.monotonic()
    wait_until(lambda: time.monotonic() - began > TIMEOUT + 2 * watchdog.TURN, SOON, every=1)
    verdict = json.loads(stack.exec("cat", "/run/health.json"))["verdict"]
    return End(0 if stack.state()["Status"] == "running" else 1, stack.last_line(), verdict)


@pytest.fixture(scope="module")
def ends(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ends]:
    """How each of them ends."""
    with ThreadPoolExecutor(len(BROKEN) + 1) as pool, ExitStack() as cleanup:
        off = Stack({**VARIABLES, "WATCHDOG_TIMEOUT": "0"})
        cleanup.callback(off.remove)
        wait_served(off.start())
        found = {"off": pool.submit(frozen, off)}
        for name, broken in BROKEN.items():
            files = settings_folder(
                tmp_path_factory.mktemp("broken") / "prod", {"settings.py": broken.settings or LOCAL}
            )
            variables = {**VARIABLES, "DJANGO_SETTINGS_MODULE": MODULE}
            stack = Stack(variables, mounts=files, options=broken.options)
            cleanup.callback(stack.remove)
            found[name] = pool.submit(end, stack.start(), broken)
        yield found


@dataclass
class Overload:
    """A site of two workers under requests of five seconds from four clients, for longer than its watchdog waits."""

    failed: dict[str, int]
    finished: int
    health: list[str]
    judged: str  # by the engine's own checks
    log: str


@pytest.fixture(scope="module")
def overload(ends: Ends) -> Iterator[Overload]:
    # The engine's own check runs so often that three failures in a row would fit in the time of the test.
    options = ["--health-interval", "3s", "--health-timeout", "10s", "--health-start-period", "1s"]
    variables = {"UWSGI_HARAKIRI": "10", "WATCHDOG_TIMEOUT": "20", "UWSGI_PROCESSES": "2"}
    site = Stack.trial(variables, options=options)
    health: list[str] = []
    try:
        site.up(120)
        began = time.monotonic()
        # Twice as many clients as there are workers: the watchdog's question waits behind them each time.
        with load(site, "/slow/5", clients=4) as visitors:
            while time.monotonic() - began < 20 + watchdog.TURN:
                # All of /run, after a while.
                if len(health) == 3:
                    site.exec("sh", "-c", "cat /dev/zero >/run/full", check=False)
                health.append(site.exec("healthcheck", check=False))
                threading.Event().wait(2)
            judged = site.state()["Health"]["Status"]
        failed, finished = visitors.failed(), visitors.answered["200"]
        yield Overload(failed, finished, health, judged, site.logs())
    finally:
        site.remove()


def test_slow_requests_that_fill_all_workers_are_answered(overload: Overload) -> None:
    assert overload.failed == {}
    assert overload.finished >= 8
    assert overload.log.count("supervisor: starting application") == 1
    assert "killed" not in overload.log


def test_a_site_whose_workers_are_all_busy_stays_healthy_even_where_run_is_full(overload: Overload) -> None:
    assert len(overload.health) >= 5
    assert set(overload.health) == {"healthy"}
    assert overload.judged == "healthy"


@pytest.mark.parametrize("name", BROKEN)
def test_what_no_restart_inside_mends_ends_the_container_which_says_so(ends: Ends, name: str) -> None:
    found = ends[name].result()
    print(found)
    assert found.status == 70
    assert re.match(f"cmd: error: {BROKEN[name].last_line}", found.last_line)
    if " s " in BROKEN[name].last_line:
        assert re.match(r"the site has not answered for|nginx does not answer|for \d+ s ", found.unhealthy)


def test_a_watchdog_that_is_off_judges_and_ends_nothing(ends: Ends) -> None:
    found = ends["off"].result()
    assert (found.status, found.unhealthy) == (0, "stuck")


@pytest.fixture
def database() -> Iterator[str]:
    """A PostgreSQL server of that name in a network of the same name; it does not answer yet."""
    name = unique("db")
    docker("network", "create", "--label", LABEL, name)
    try:
        words = ("--name", name, "--network", name, "--network-alias", "db", "--label", LABEL)
        docker("run", "-d", *words, helper_image("postgres"))
        docker("pause", name)
        yield name
    finally:
        docker("rm", "-f", "-v", name, check=False)
        docker("network", "rm", name)


@pytest.mark.slow
def test_a_database_that_never_answers_ends_nothing(database: str, new_stack: NewStack) -> None:
    variables = {**VARIABLES, "DATABASE_URL": "postgres://app:secret@db:5432/app", "LOG_LEVEL": "critical"}
    site = new_stack(Stack(variables, options=["--network", database]))
    # Requests that wait for the database until harakiri, and what was under way when the application was killed.
    site.allowed = [WORKERS_DIE, r"upstream (timed out|prematurely closed)", "waiting for the database: "]
    site.allowed += ["application was killed by signal 9", r"(recv|connect)\(\) (failed|to unix:/run/uwsgi.sock)"]

    def waited(since: float) -> bool:
        """Longer than the watchdog would; files are served all the time."""
        assert site.get("/static/start/start.css").status_code == 200
        assert site.state()["Status"] == "running"
        return time.monotonic() - since > TIMEOUT + watchdog.TURN

    docker("unpause", database)
    site.up(120)
    docker("pause", database)
    began = time.monotonic()
    with load(site, "/", clients=4, pause=0.1) as visitors:
        wait_until(lambda: waited(began), SOON, every=1)
    assert visitors.answered.keys() <= {"502", "503", "504", "500"}
    # Once the requests that still wait are ended too.
    wait_until(lambda: all(one["status"] == "idle" for one in site.uwsgi()["workers"]), 60)
    # Started anew it waits for the database, and the starting page is what there is.
    site.exec("sh", "-c", "kill -9 $(supervisorctl pid application)")
    wait_until(lambda: site.logs().count("supervisor: starting application") == 2)
    began = time.monotonic()
    wait_until(lambda: waited(began), SOON, every=1)
    assert site.get("/").headers["Retry-After"]
    docker("unpause", database)
    wait_until(lambda: site.get("/").status_code == 200, 60)
    assert site.logs().count("supervisor: starting application") == 2


@pytest.mark.slow
def test_a_program_that_is_killed_ten_times_in_two_minutes_is_given_up(new_stack: NewStack) -> None:
    site = new_stack(Stack()).up(120)
    site.allowed = [
        "killed by signal 9",
        "^cmd: error: ",
        r"recv\(\) failed|upstream prematurely closed .*/dockerable/live",
    ]
    for _ in range(10):
        wait_until(lambda: "RUNNING" in site.exec("supervisorctl", "status", "nginx", check=False), every=0.2)
        site.exec("sh", "-c", KILL_NGINX)
    assert site.wait_end() == 70
    assert site.last_line() == "cmd: error: nginx ended 10 times within 120 s, the last time it was killed by signal 9"
