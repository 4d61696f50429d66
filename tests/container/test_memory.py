"""Memory: workers are replaced before it runs out, without a failed request; kills by the kernel are logged."""

import contextlib
import re
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from dockerable.container import limits, watchdog
from tests.support.http import parse, read_all
from tests.support.load import load
from tests.support.stack import WORKERS_DIE, Stack
from tests.support.wait import wait_until

MIB = limits.MIB
LITTLE = ["--memory", "256m", "--memory-swap", "256m"]
KILLS = "cat /sys/fs/cgroup/memory.events /sys/fs/cgroup/memory/memory.oom_control 2>/dev/null"
ANONYMOUS = "cat /sys/fs/cgroup/memory.stat /sys/fs/cgroup/memory/memory.stat 2>/dev/null"
RECYCLED = "...The work of process "


def oom_kills(stack: Stack) -> int:
    """How often the kernel has killed a process of the container, by cgroup version 1 or 2."""
    found = re.search(r"^oom_kill (\d+)$", stack.exec("sh", "-c", KILLS, check=False), re.MULTILINE)
    assert found
    return int(found[1])


def anonymous(stack: Stack) -> float:
    """Memory of the container's processes, in MiB."""
    found = re.search(r"^(?:total_rss|anon) (\d+)$", stack.exec("sh", "-c", ANONYMOUS, check=False), re.MULTILINE)
    assert found
    return int(found[1]) / MIB


def idle(stack: Stack) -> bool:
    """Whether no worker is at work, by uWSGI's own account."""
    return all(worker["status"] == "idle" for worker in stack.uwsgi()["workers"])


def workers(stack: Stack) -> set[str]:
    """Process ids of workers, as they say themselves."""
    with stack.client() as client:
        return {client.get("/leak/0").text for _ in range(20)}


@pytest.fixture(scope="module")
def site_stack() -> Stack:
    # Longer than it may take to write what the slow readers want.
    stack = Stack.trial({"NGINX_SEND_TIMEOUT": "300"}, options=LITTLE)
    stack.allowed = [WORKERS_DIE, r"killed for want of memory|killed by signal 9|was killed|prematurely closed"]
    return stack


@pytest.mark.parametrize("path", ["/large/8", pytest.param("/media/file-{}", marks=pytest.mark.slow)])
def test_slow_downloads_take_neither_memory_nor_workers(site: Stack, path: str) -> None:
    if path.startswith("/media/"):
        fill = "for i in $(seq 0 49); do head -c 8388608 /dev/zero | tr '\\0' x >/data/media/file-$i; done; sync"
        site.exec("sh", "-c", fill)
    before, kills = anonymous(site), oom_kills(site)
    begun, fetch = [], threading.Event()

    def download(number: int) -> int:
        """The length of an answer (of x alone) whose first kilobyte is read at once, the rest on `fetch`."""
        with socket.socket() as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.connect(("127.0.0.1", site.port))
            connection.settimeout(60)
            connection.sendall(f"GET {path.format(number)} HTTP/1.1\r\nHost: localhost\r\n".encode())
            connection.sendall(b"Connection: close\r\n\r\n")
            first = connection.recv(1000)
            begun.append(first)
            fetch.wait(60)
            return parse(first + read_all(connection)).body.count(b"x")

    with ThreadPoolExecutor(50) as pool:
        readers = [pool.submit(download, number) for number in range(50)]
        try:
            # nginx has all of it on disk: nothing is left for the workers to do.
            wait_until(lambda: len(begun) == 50 and idle(site), 60, every=0.5)
            assert site.get("/show").elapsed.total_seconds() < 10
            assert anonymous(site) - before < 48
        finally:
            fetch.set()
        assert {reader.result() for reader in readers} == {8 * MIB}
    assert oom_kills(site) == kills


def test_a_leak_costs_no_request(site: Stack) -> None:
    began = site.state()["StartedAt"]
    with load(site, "/leak/1024") as visitors:
        # Each time is 50 MB and more; without it the limit would be hit after the second.
        wait_until(lambda: site.logs().count(RECYCLED) >= 8, 60)
    assert visitors.failed() == {}
    assert visitors.answered["200"] > 200
    assert oom_kills(site) == 0
    assert (site.state()["OOMKilled"], site.state()["StartedAt"]) == (False, began)
    assert anonymous(site) < 256


def test_a_process_that_the_kernel_kills_is_said_once_with_its_request(site: Stack) -> None:
    began, kills = site.state()["StartedAt"], oom_kills(site)
    assert site.get("/leak/400000").status_code == 502
    wait_until(lambda: oom_kills(site) == kills + 1)
    assert site.get("/show").status_code == 200

    def told(what: str) -> list[str]:
        return [line for line in site.logs().splitlines() if what in line]

    (line,) = wait_until(lambda: told("killed for want of memory (limit 256 MB)")[kills:])
    assert "warning: " in line
    (line,) = wait_until(lambda: told("most likely for want of memory")[kills:])
    assert re.search(r"error: worker \d \(pid \d+\) was killed, most likely .* during GET /leak/400000 ", line)
    assert (site.state()["Status"], site.state()["StartedAt"]) == ("running", began)


def kill_supervisord(stack: Stack) -> None:
    with contextlib.suppress(AssertionError):  # the container may end before the command does
        stack.exec("sh", "-c", "kill -9 $(cat /run/supervisord.pid)")


def exhaust_memory(stack: Stack) -> None:
    """Leak in the workers while supervisord is the process that the kernel kills first."""
    stack.exec("sh", "-c", "echo 1000 >/proc/$(cat /run/supervisord.pid)/oom_score_adj")
    with contextlib.suppress(httpx.TransportError):
        stack.get("/leak/400000")


@pytest.mark.parametrize(
    ("end", "last_line"),
    [
        (kill_supervisord, "was killed by signal 9"),
        (exhaust_memory, "was killed for want of memory (limit 256 MB)"),
    ],
)
def test_only_memory_that_ran_out_now_counts_as_the_cause_of_the_end(
    end: Callable[[Stack], None], last_line: str, new_stack: Callable[[Stack], Stack]
) -> None:
    stack = new_stack(Stack.trial(options=LITTLE))
    stack.allowed = ["killed for want of memory|killed by signal 9|was killed|prematurely closed", WORKERS_DIE]
    stack.allowed += ["^cmd: error: ", "recv.. failed|connect.. to unix"]
    stack.up()
    # A process was killed so, and the watchdog has seen the site answer since then.
    assert stack.get("/leak/400000").status_code == 502
    wait_until(lambda: oom_kills(stack) == 1)
    wait_until(lambda: stack.get("/show").status_code == 200)
    began = time.monotonic()
    wait_until(lambda: time.monotonic() - began > watchdog.TURN, every=0.5)
    end(stack)
    assert stack.wait_end() == 70
    assert stack.last_line() == f"cmd: error: supervisord {last_line}"


@pytest.mark.parametrize("threads", ["1", pytest.param("4", marks=pytest.mark.slow)])
@pytest.mark.parametrize("reason", [{"UWSGI_MAX_REQUESTS": "50"}, {"UWSGI_MAX_WORKER_LIFETIME": "2"}], ids=str)
def test_workers_that_are_recycled_lose_no_request(
    new_stack: Callable[[Stack], Stack], reason: dict[str, str], threads: str
) -> None:
    stack = new_stack(Stack.trial({**reason, "UWSGI_THREADS": threads, "UWSGI_PROCESSES": "2"})).up()
    stack.allowed = ["worker respawning too fast"]
    before = workers(stack)
    with load(stack, "/show") as visitors:
        # One of them may have been replaced more often than the other.
        wait_until(lambda: stack.logs().count("Respawned uWSGI worker") >= 3 and not before & workers(stack), 60)
    assert visitors.failed() == {}


def test_a_bound_below_what_the_application_needs_is_raised(new_stack: Callable[[Stack], Stack]) -> None:
    stack = Stack.trial({"UWSGI_RELOAD_ON_RSS": "20", "UWSGI_PROCESSES": "1"})
    stack.allowed = ["UWSGI_RELOAD_ON_RSS=20 is too little"]
    new_stack(stack).up()
    assert len(workers(stack)) == 1
    assert "django: warning: UWSGI_RELOAD_ON_RSS=20 is too little for an application that takes" in stack.logs()
