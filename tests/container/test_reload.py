"""`reload` in the container and `ctl reload`: mounted files are loaded, or refused while the old ones stay in use."""

import re
import shutil
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.docker import ROOT
from tests.support.environments import app_with_migration
from tests.support.http import answer
from tests.support.mounted import SETTINGS, URLS, Mounted
from tests.support.stack import WORKERS_DIE, Stack
from tests.support.wait import wait_until

NewStack = Callable[[Stack], Stack]
HEADER = "add_header X-Changed yes always;\n"


@pytest.fixture(scope="module")
def site_stack(tmp_path_factory: pytest.TempPathFactory) -> Mounted:
    folder = tmp_path_factory.mktemp("mounted")
    shutil.copytree(ROOT / "dockerable/nginx", folder / "nginx")
    mounts = [f"{folder / 'nginx'}:/app/dockerable/nginx:ro"]
    stack = Mounted(folder / "prod", {"UWSGI_PROCESSES": "3"}, mounts=mounts)
    # Several reloads within a second.
    stack.allowed = ["worker respawning too fast"]
    return stack


@pytest.fixture(autouse=True)
def mended(request: pytest.FixtureRequest) -> Iterator[None]:
    """Each test finds a sound folder and leaves one."""
    yield
    if "site" in request.fixturenames:
        request.getfixturevalue("site").set_version(1)


def fresh(site: Mounted, number: int) -> None:
    """Serve that version."""
    site.set_version(number)
    status, told = site.reload()
    assert status == 0, told


def test_settings_secrets_and_code_are_served_after_a_reload_and_not_before(site: Mounted) -> None:
    before = site.workers()
    master = site.master()
    site.set_version(2)
    assert site.served() == {(1, 1, "1")}
    status, told = site.reload()
    assert (status, told.splitlines()[-1].startswith("reload: 3 workers replaced in ")) == (0, True), told
    assert site.served() == {(2, 2, "2")}
    assert not before & site.workers()
    assert site.master() == master


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("settings.py", SETTINGS + "x = (\n", "settings.py, line "),
        ("settings.py", SETTINGS + "import nothing_of_that_name\n", "ModuleNotFoundError: No module named 'nothing_of"),
        ("settings.py", SETTINGS + "DEBUG = True\n", "DEBUG is on"),
        ("urls.py", URLS + "\n1 / 0\n", "ZeroDivisionError: division by zero (/app/project/settings/prod/urls.py, "),
        ("secrets.json", '{"SECRET_KEY": ', "project/settings/prod/secrets.json is not JSON at line 1, column "),
        ("secrets.json", "{}", "SECRET_KEY is not set: put it into project/settings/prod/secrets.json"),
    ],
    ids=["syntax", "import", "DEBUG", "code", "JSON", "key"],
)
def test_what_is_broken_is_refused_and_no_worker_is_touched(name: str, text: str, told: str, site: Mounted) -> None:
    before = site.workers(), site.served()
    site.write(name, text)
    status, said = site.reload()
    assert status == 78
    assert told in said
    assert said.splitlines()[-1] == "reload: error: refused (above: why); what was loaded before serves on"
    assert "/run/snapshot" not in said
    assert (site.workers(), site.served()) == before


def test_nginx_takes_changed_templates_and_refuses_broken_ones(site: Mounted) -> None:
    template = site.folder.parent / "nginx/security-headers.conf"
    sound = template.read_text()
    try:
        template.write_text(sound + HEADER.rstrip(";\n") + "\n")
        before = site.exec("sh", "-c", "cat /run/nginx/*.conf")
        status, told = site.reload()
        assert status == 78
        assert "nginx refuses its configuration: " in told and "security-headers.conf" in told
        assert site.exec("sh", "-c", "cat /run/nginx/*.conf") == before
        assert "X-Changed" not in site.get("/version").headers
        template.write_text(sound + HEADER)
        assert site.reload()[0] == 0
        # Old nginx workers may answer what they had.
        wait_until(lambda: site.get("/static/nothing").headers.get("X-Changed") == "yes", timeout=5)
    finally:
        template.write_text(sound)
    assert site.reload()[0] == 0


def test_no_request_fails_under_load_while_workers_and_nginx_are_replaced(site: Mounted) -> None:
    fresh(site, 4)
    stop = threading.Event()

    def ask(path: str) -> Counter[str]:
        """Requests one after the other on connections of their own: what came back, and how often."""
        answers: Counter[str] = Counter()
        while not stop.is_set():
            try:
                given = answer(site, path)
                answers[f"{given.status} {given.body.decode().strip()}"] += 1
            except (OSError, ValueError, AssertionError) as reason:
                answers[repr(reason)] += 1
        return answers

    with ThreadPoolExecutor(8) as pool:
        # At any moment two workers are in the middle of something.
        clients = [pool.submit(ask, path) for path in ["/slow/1"] * 2 + ["/code"] * 6]
        try:
            for number in (5, 6):
                fresh(site, number)
        finally:
            stop.set()
    slow, fast = (sum((client.result() for client in some), Counter()) for some in (clients[:2], clients[2:]))
    print(dict(slow), dict(fast))
    assert set(fast) == {"200 4", "200 5", "200 6"}
    assert set(slow) <= {"200 slept, code 4", "200 slept, code 5", "200 slept, code 6"} and len(slow) > 1


def test_of_two_reloads_at_once_one_waits(site: Mounted) -> None:
    site.set_version(8)
    with ThreadPoolExecutor(2) as pool:
        both = [done.result() for done in [pool.submit(site.reload) for _ in range(2)]]
    assert [status for status, _ in both] == [0, 0]
    assert sum("reload: waiting for another reload\n" in told for _, told in both) == 1
    assert site.served() == {(8, 8, "8")}


def test_each_worker_is_replaced_once_however_long_one_is_busy(site: Mounted) -> None:
    def respawned() -> int:
        return site.logs().count("Respawned uWSGI worker")

    before, number = respawned(), len(site.workers())
    with ThreadPoolExecutor() as pool:
        slow = pool.submit(site.get, "/slow/12")
        wait_until(lambda: "busy" in [worker["status"] for worker in site.uwsgi()["workers"]])
        assert site.reload()[0] == 0
        assert slow.result().status_code == 200
    wait_until(lambda: respawned() >= before + number)
    assert respawned() == before + number


def test_a_reload_after_one_that_was_ended_replaces_all_workers(site: Mounted) -> None:
    def in_service() -> str:
        return site.exec("readlink", "/run/snapshot/current")

    # Its question to uWSGI may be ended too.
    site.allowed.append(r"write\(\): Broken pipe \[core/stats\.c")
    with ThreadPoolExecutor() as pool:
        slow = pool.submit(site.get, "/slow/8")
        wait_until(lambda: "busy" in [worker["status"] for worker in site.uwsgi()["workers"]])
        before = in_service()
        site.set_version(2)
        first = pool.submit(site.reload)
        wait_until(lambda: in_service() != before)
        # Its chain is under way, and waits for the worker that is slow.
        time.sleep(1)
        site.exec("sh", "-c", f"kill -INT {' '.join(site.running('bin/reload'))}")
        assert first.result()[0] == 130
        # What serves until then still has its copy.
        assert before in site.exec("ls", "/run/snapshot").split()
        site.set_version(3)
        second = pool.submit(site.reload)
        wait_until(lambda: site.running("bin/reload"))
        assert before in site.exec("ls", "/run/snapshot").split()
        assert slow.result().status_code == 200
        status, told = second.result()
    assert status == 0, told
    assert site.served() == {(3, 3, "3")}
    assert len([name for name in site.exec("ls", "/run/snapshot").split() if name.isdigit()]) == 1


def test_a_reload_does_not_wait_for_a_uwsgi_that_was_killed(site: Mounted) -> None:
    site.allowed += ["killed by signal 9|the master disconnected", r"connect\(\) to unix:/run/uwsgi.sock failed"]
    # A sign of life that was asked for at that moment.
    site.allowed += [r"(recv\(\) failed|upstream prematurely closed) .*GET /dockerable/live"]
    supervisor, master = "$(cat /run/supervisord.pid)", site.master()
    # As if it took a while to notice.
    site.exec("sh", "-c", f"kill -STOP {supervisor}; kill -9 {master}")
    try:
        status, said = site.reload()
    finally:
        site.exec("sh", "-c", f"kill -CONT {supervisor}")
    assert (status, "uWSGI has ended and is being started again" in said) == (75, True)
    site.wait_healthy(60)
    assert site.reload()[0] == 0


@pytest.mark.parametrize(
    ("fault", "mend", "cause"),
    [
        ("cat /dev/zero >/run/full", "rm /run/full", "cannot be copied.* No space left on device"),
        # Room for the copy, not for nginx's configuration.
        (
            "cat /dev/zero >/run/full; truncate -s -56K /run/full",
            "rm /run/full",
            r"/run/nginx.new/\w+.conf cannot be written",
        ),
        ("chmod 500 /run/snapshot", "chmod 770 /run/snapshot", "cannot be copied.*Permission denied"),
    ],
    ids=["full", "nearly full", "closed"],
)
def test_where_run_cannot_be_written_a_reload_says_so_and_works_later(
    fault: str, mend: str, cause: str, site: Mounted
) -> None:
    before = site.workers()
    site.set_version(2)
    site.exec("sh", "-c", fault, check=False)
    try:
        status, told = site.reload()
    finally:
        site.exec("sh", "-c", mend)
    assert status == 73, told
    assert re.search(rf"^error: .*{cause}.*\(remedy: room in /run, ", told, re.M), told
    assert "environment's folder" not in told
    assert "Traceback" not in told
    assert site.workers() == before
    assert site.reload()[0] == 0
    assert site.served() == {(2, 2, "2")}


@pytest.mark.parametrize(("uid", "reason"), [("4242:0", "another uid than the site's"), ("0", "not as uid 0")])
def test_another_uid_is_refused(uid: str, reason: str, site: Mounted) -> None:
    status, told = site.reload("-u", uid)
    assert (status, reason in told) == (64, True), told
    assert "remedy: docker exec without -u" in told


def test_migrations_that_are_due_are_told_of_and_not_applied(new_stack: NewStack, tmp_path: Path) -> None:
    stack = Mounted(tmp_path / "prod")
    new_stack(stack).up()
    for name, text in app_with_migration("").items():
        if name != "settings.py":
            (stack.folder / name).parent.mkdir(parents=True, exist_ok=True)
            stack.write(name, text)
    stack.write("settings.py", f"{SETTINGS}INSTALLED_APPS = [*INSTALLED_APPS, 'project.settings.prod.late']\n")
    status, told = stack.reload()
    assert status == 0, told
    assert "warning: migrations are not applied, and a reload does not: late.0001_late (remedy: manage migrate)" in told
    assert "[ ] 0001_late" in stack.exec("manage", "showmigrations", "late")


def test_while_it_starts_a_reload_says_so(new_stack: NewStack, tmp_path: Path) -> None:
    stack = Mounted(tmp_path / "prod")
    new_stack(stack)
    stack.write("settings.py", f"import time\ntime.sleep(3)\n{SETTINGS}")
    stack.start()
    wait_until(lambda: stack.exec("ls", "/run/nginx.pid", check=False))
    status, told = stack.reload()
    assert (status, "not serving yet" in told) == (75, True), told
    stack.wait_healthy()


# Of uWSGI's first workers only one is ready at once.
SLOW_AT_FIRST = """
import sys, time
from pathlib import Path
if "uwsgi" in sys.modules and sys.modules["uwsgi"].worker_id() > 1:
    slow = Path(f"/run/slow{sys.modules['uwsgi'].worker_id()}")
    if not slow.exists():
        slow.touch()
        time.sleep(5)
"""


def test_workers_that_still_start_are_replaced_as_well(new_stack: NewStack, tmp_path: Path) -> None:
    stack = Mounted(tmp_path / "prod", {"UWSGI_PROCESSES": "3"})
    new_stack(stack)
    stack.write("settings.py", f"{SLOW_AT_FIRST}{SETTINGS}")
    stack.up()
    before = stack.workers()
    status, told = stack.reload()
    assert (status, "3 workers replaced" in told) == (0, True), told
    assert not before & stack.workers()


@pytest.mark.slow
def test_where_memory_is_short_a_reload_succeeds_or_is_refused_with_its_cause(
    new_stack: NewStack, tmp_path: Path
) -> None:
    options = ["--memory", "128m", "--memory-swap", "128m"]
    stack = Mounted(tmp_path / "prod", {"UWSGI_PROCESSES": "1"}, options=options)
    stack.allowed = ["may need more than the memory limit of 128 MB", "killed for want of memory", WORKERS_DIE]
    new_stack(stack).up()
    served = 1
    for number in range(2, 5):
        before = stack.workers()
        stack.set_version(number)
        status, told = stack.reload()
        if status == 0:
            served = number
        else:
            assert (status, "error: killed, most likely by the memory limit" in told) == (78, True), told
            assert stack.workers() == before
        assert stack.served() == {(served, served, str(served))}
