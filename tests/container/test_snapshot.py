"""Broken mounted files do not reach a worker that is replaced, or a master that restarts after a crash."""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from dockerable.container import snapshot
from tests.support.docker import docker
from tests.support.mounted import SETTINGS, URLS, Mounted
from tests.support.stack import WORKERS_DIE, Stack
from tests.support.wait import wait_until

# Settings that a check loads until the test makes a file, and that a worker loads at once.
HELD = f"""
import sys, time
from pathlib import Path
Path("/data/held").touch()
while "uwsgi" not in sys.modules and not Path("/data/go").exists():
    time.sleep(0.05)
{SETTINGS}"""


@pytest.fixture(scope="module")
def site_stack(tmp_path_factory: pytest.TempPathFactory) -> Mounted:
    folder = tmp_path_factory.mktemp("mounted")
    (folder / "files").mkdir()
    (folder / "files/host").write_text("first.example.test")
    variables = {"UWSGI_HARAKIRI": "2", "EMAIL_HOST_FILE": "/files/host"}
    stack = Mounted(folder / "prod", variables, mounts=[f"{folder / 'files'}:/files:ro"])
    stack.allowed = ["Internal Server Error: /crash", "Traceback", "handlers/exception.py"]
    stack.allowed += [WORKERS_DIE, "killed by signal 9", "upstream (prematurely closed|timed out)"]
    stack.allowed += ["recv.. failed", "connect.. to unix"]
    return stack


@pytest.fixture
def broken(site: Mounted) -> Iterator[Mounted]:
    """The site, with a folder in which nothing is sound any more; mended afterwards."""
    assert site.served() == {(1, 1, "1")}
    site.write("settings.py", "this is no Python\n")
    site.write("urls.py", "1 / 0\n")
    site.write("secrets.json", "{")
    yield site
    site.set_version(1)


def replaced(site: Mounted, before: set[int]) -> bool:
    """Whether there are as many workers as before, all of them are others and have loaded the application."""
    workers = site.uwsgi()["workers"]
    now = {worker["pid"] for worker in workers}
    return all(worker["accepting"] for worker in workers) and len(now) == len(before) and not now & before


def kill(site: Mounted, before: set[int]) -> None:
    site.exec("sh", "-c", f"kill -9 {' '.join(map(str, before))}")


def exceed_harakiri(site: Mounted, before: set[int]) -> None:
    while before & site.workers():
        assert site.get("/slow/10").status_code in (502, 504)


@pytest.mark.parametrize("replace", [kill, exceed_harakiri])
def test_a_worker_that_is_replaced_loads_what_was_checked_last(
    replace: Callable[[Mounted, set[int]], None], broken: Mounted
) -> None:
    before, master = broken.workers(), broken.master()
    replace(broken, before)
    wait_until(lambda: replaced(broken, before))
    assert broken.served() == {(1, 1, "1")}
    assert broken.master() == master


def test_a_master_that_crashed_starts_with_what_was_checked_last(broken: Mounted) -> None:
    master = broken.master()
    kill(broken, {master})
    wait_until(lambda: broken.master() != master)
    wait_until(lambda: broken.get("/version").status_code == 200)
    assert broken.served() == {(1, 1, "1")}
    assert broken.says("starting again with what was loaded last; what was mounted since then waits for a reload")
    # A reload still sees what is mounted.
    assert broken.reload()[0] == 78


@contextmanager
def held_up(site: Mounted) -> Iterator[Future[tuple[int, str]]]:
    """A reload to version 2 in the middle of its check; it goes on at the end of the block."""
    site.exec("rm", "-f", "/data/held", "/data/go")
    site.set_version(2)
    site.write("settings.py", HELD.replace("VERSION = 1", "VERSION = 2"))
    with ThreadPoolExecutor(1) as pool:
        try:
            reload = pool.submit(site.reload)
            wait_until(lambda: "held" in site.exec("ls", "/data"))
            yield reload
        finally:
            site.exec("touch", "/data/go")


def crash_master(site: Mounted) -> None:
    """kill -9 of uWSGI's master, until the next one serves."""
    # Three that end within startsecs are given up.
    wait_until(lambda: "RUNNING" in site.exec("supervisorctl", "status", "application", check=False), every=1)
    master = site.master()
    kill(site, {master})
    wait_until(lambda: site.master() != master)
    site.wait_healthy()


@pytest.mark.parametrize("end", ["INT", "TERM", "KILL"])
def test_a_reload_that_is_ended_in_its_check_leaves_nothing_that_enters_service_or_is_in_the_way(
    end: str, site: Mounted
) -> None:
    assert site.served() == {(1, 1, "1")}
    with held_up(site) as reload:
        site.exec("sh", "-c", f"kill -{end} {' '.join(site.running('bin/reload'))}")
        status, told = reload.result()
        assert status == (137 if end == "KILL" else 130), told
        assert "Traceback" not in told
        # What it began ends with it.
        wait_until(lambda: not site.running("application --check"))
        crash_master(site)
        assert site.served() == {(1, 1, "1")}
        # The next one has not to wait for it.
        site.set_version(3)
        assert site.reload()[0] == 0
        assert site.served() == {(3, 3, "3")}
    site.set_version(1)
    assert site.reload()[0] == 0


def test_a_check_that_is_ended_has_not_passed(site: Mounted) -> None:
    with held_up(site) as reload:
        site.exec("sh", "-c", f"kill -TERM {' '.join(site.running('application --check'))}")
        assert reload.result()[0] == 78
    assert site.served() == {(1, 1, "1")}
    site.set_version(1)
    assert site.reload()[0] == 0


def test_a_master_that_crashes_during_a_check_starts_with_what_was_checked_last(site: Mounted) -> None:
    with held_up(site) as reload:
        crash_master(site)
        assert site.served() == {(1, 1, "1")}
    assert reload.result()[0] == 0
    assert site.served() == {(2, 2, "2")}
    site.set_version(1)
    assert site.reload()[0] == 0


def test_what_was_checked_does_not_enter_service_where_nginx_ends_the_reload(site: Mounted) -> None:
    site.set_version(2)
    nginx = "$(cat /run/nginx.pid)"
    site.exec("sh", "-c", f"kill -STOP {nginx}")
    try:
        status, told = site.reload()
    finally:
        site.exec("sh", "-c", f"kill -CONT {nginx}")
    assert (status, "nginx serves on with its old configuration" in told) == (78, True), told
    crash_master(site)
    assert site.served() == {(1, 1, "1")}
    assert len([name for name in site.exec("ls", "/run/snapshot").split() if name.isdigit()]) == 1
    site.set_version(1)


def test_after_a_reload_it_is_the_new_that_is_kept(site: Mounted) -> None:
    site.set_version(2)
    assert site.reload()[0] == 0
    site.write("settings.py", "this is no Python\n")
    before = site.workers()
    kill(site, before)
    wait_until(lambda: replaced(site, before))
    assert site.served() == {(2, 2, "2")}
    site.set_version(1)
    assert site.reload()[0] == 0


def test_a_file_that_a_variable_names_is_kept_too_and_manage_reads_what_is_mounted(site: Mounted) -> None:
    """EMAIL_HOST_FILE names the file `host`, in a folder that holds no code."""
    tell = ("manage", "shell", "-v", "0", "-c", "from django.conf import settings; print(settings.EMAIL_HOST)")
    file = site.folder.parent / "files/host"
    file.write_text("second.example.test")
    assert site.exec(*tell) == "second.example.test"
    before = site.workers()
    kill(site, before)
    wait_until(lambda: replaced(site, before))
    assert site.get("/version").json()["host"] == "first.example.test"
    assert site.reload()[0] == 0
    assert site.get("/version").json()["host"] == "second.example.test"


def test_paths_made_from_a_files_own_lead_where_they_did(site: Mounted) -> None:
    there = site.get("/places").json()
    assert there == {"secrets": True, "root": ["manage.py", "project/urls.py", "requirements.txt"]}


def test_a_traceback_names_the_mounted_file(site: Mounted) -> None:
    assert site.get("/crash").status_code == 500
    line = URLS[: URLS.index("raise RuntimeError")].count("\n") + 1
    wait_until(lambda: f'File "/app/project/settings/prod/urls.py", line {line}, in crash' in site.logs())
    assert "/run/snapshot" not in site.logs()


def test_copies_are_closed_to_others_and_old_ones_removed(site: Mounted) -> None:
    for _ in range(2):
        assert site.reload()[0] == 0
    found = site.exec("sh", "-c", "cd /run/snapshot && ls && find . ! -type l -printf '%m %f\n' | sort -u").splitlines()
    assert len([name for name in found if name.isdigit()]) == 1
    assert "660 secrets.json" in found
    assert {line.split()[0] for line in found if " " in line} == {"660", "770"}


@pytest.mark.slow
def test_what_is_too_large_is_used_in_its_place_and_said(new_stack: Callable[[Stack], Stack], tmp_path: Path) -> None:
    stack = Mounted(tmp_path / "prod")
    new_stack(stack)
    (stack.folder / "large.py").write_text(f"'''{'x' * snapshot.MOST_BYTES}'''\n")
    left_in_place = "warning: /app/project/settings/prod cannot be copied [(]more than 4 MiB of modules[)]: a worker"
    stack.allowed = [left_in_place, WORKERS_DIE]
    stack.up()
    assert len(stack.trouble()) == 0 and "cannot be copied" in stack.logs()
    stack.set_version(2)
    assert stack.reload()[0] == 0
    assert stack.served() == {(2, 2, "2")}
    stack.write("settings.py", SETTINGS.replace("VERSION = 1", "VERSION = 3"))
    before = stack.workers()
    kill(stack, before)
    wait_until(lambda: replaced(stack, before))
    assert stack.served() == {(3, 2, "2")}


@pytest.mark.slow
def test_without_a_mount_nothing_is_copied(new_stack: Callable[[Stack], Stack]) -> None:
    stack = new_stack(Stack()).up()
    assert stack.exec("sh", "-c", "ls -A /run/snapshot/current/") == ".snapshot"
    stack.exec("reload")
    assert stack.get().status_code == 200


def test_a_container_that_starts_takes_what_is_mounted_by_then(site: Mounted) -> None:
    site.set_version(9)
    docker("restart", site.name)
    site.wait_healthy()
    assert site.served() == {(9, 9, "9")}
