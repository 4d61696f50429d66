"""Stops, reloads and kills: requests in flight are answered, and killed programs are started again."""

import hashlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field

import httpx
import pytest

from tests.support.docker import docker
from tests.support.http import Answer, answer, connect, parse, read_all
from tests.support.processes import processes, seconds_of_a_stop
from tests.support.stack import WORKERS_DIE, Stack
from tests.support.wait import wait_until

# How many workers of uWSGI are at work, by its own statistics.
BUSY = """
import json, socket
with socket.socket(socket.AF_UNIX) as connection:
    connection.connect("/run/uwsgi-stats.sock")
    print(sum(worker["status"] == "busy" for worker in json.load(connection.makefile())["workers"]))
"""


@dataclass
class Visits:
    """The answers to a client that sends requests all the time, with their monotonic seconds."""

    answered: list[tuple[float, str]] = field(default_factory=list)

    def failed(self) -> list[tuple[float, str]]:
        return [visit for visit in self.answered if visit[1] != "200"]

    def since(self, moment: float) -> list[str]:
        return [how for when, how in self.answered if when > moment]


@contextmanager
def visitor(stack: Stack, pause: float = 0.03) -> Iterator[Visits]:
    """A client that sends requests until the end of the block, each on a new connection.

    `pause` in seconds is for where it would take the CPU that a start needs.
    """
    visits, end = Visits(), threading.Event()

    def visit() -> None:
        while not end.is_set():
            try:
                how = str(stack.get("/show").status_code)
            except httpx.HTTPError as reason:
                how = type(reason).__name__
            visits.answered.append((time.monotonic(), how))
            end.wait(pause)

    thread = threading.Thread(target=visit)
    thread.start()
    try:
        yield visits
    finally:
        end.set()
        thread.join()


def test_a_stop_lets_what_is_in_flight_end(new_stack: Callable[[Stack], Stack]) -> None:
    stack = new_stack(Stack.trial()).up()
    uploading, downloading, stopping = threading.Event(), threading.Event(), threading.Event()

    def upload() -> Answer:
        """Half of it before the stop, half after."""
        with connect(stack) as connection:
            connection.sendall(b"POST /body HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2000000\r\n\r\n")
            connection.sendall(b"a" * 1_000_000)
            uploading.set()
            assert stopping.wait(20)
            for _ in range(10):
                connection.sendall(b"b" * 100_000)
                time.sleep(0.2)  # the client's own pace
            return parse(read_all(connection))

    def download() -> int:
        """A reader that takes more than two seconds for it."""
        length = 0
        with stack.client() as client, client.stream("GET", "/large/20") as stream:
            for block in stream.iter_raw(1 << 20):
                if length == 0:
                    downloading.set()
                    assert stopping.wait(20)
                length += len(block)
                time.sleep(0.1)
        return length

    with ThreadPoolExecutor() as pool:
        slow, up, down = pool.submit(stack.get, "/slow/6"), pool.submit(upload), pool.submit(download)
        assert uploading.wait(20)
        assert downloading.wait(20)
        wait_until(lambda: int(stack.exec("python3", "-c", BUSY)) >= 1)
        began = time.monotonic()
        docker("kill", "--signal", "TERM", stack.name)
        stopping.set()
        assert slow.result().status_code == 200
        assert slow.result().text == "slept 6 s\n"
        sent = up.result()
        assert sent.status == 200
        assert json.loads(sent.body)["sha256"] == hashlib.sha256(b"a" * 1_000_000 + b"b" * 1_000_000).hexdigest()
        assert down.result() == 20 * 1024 * 1024
    assert stack.wait_end() == 0
    print(f"a stop with a request of 6 s in flight took {time.monotonic() - began:.1f} s")
    # Below worker_shutdown_timeout.
    assert time.monotonic() - began < 20
    assert stack.last_line() == "cmd: stopped"


def test_a_chain_reload_renews_all_workers_and_fails_no_request(site: Stack) -> None:
    before = processes(site)
    with visitor(site) as visits:
        wait_until(lambda: len(visits.answered) > 20)
        began = time.monotonic()
        site.exec("sh", "-c", "echo c >/run/uwsgi.fifo")
        wait_until(lambda: not processes(site)["uWSGI worker"] & before["uWSGI worker"], 60, every=0.5)
        wait_until(lambda: len(processes(site)["uWSGI worker"]) == len(before["uWSGI worker"]), 30, every=0.5)
        print(f"a chain reload took {time.monotonic() - began:.1f} s")
        moment = time.monotonic()
        wait_until(lambda: len(visits.since(moment)) > 20)
    assert len(visits.answered) > 50
    assert visits.failed() == []
    assert processes(site)["uWSGI master"] == before["uWSGI master"]


@pytest.mark.parametrize("kind", ["nginx worker", "uWSGI worker", "nginx master", "uWSGI master"])
def test_what_is_killed_comes_back_by_itself(site: Stack, kind: str) -> None:
    site.allowed += [
        "killed by signal 9|exited on signal 9|the master disconnected from this worker",
        # The killed one's workers may still be there.
        r"emergency: bind\(\) to .* failed",
        "error: worker .* was killed during",
        r"connect\(\) to unix:/run/uwsgi.sock failed|upstream prematurely closed|recv\(\) failed",
    ]
    before, state = processes(site), site.state()
    killed = min(before[kind])
    with visitor(site, pause=0.05) as visits:
        wait_until(lambda: len(visits.answered) > 5)
        began = time.monotonic()
        site.exec("sh", "-c", f"kill -9 {killed}")

        def back() -> bool:
            now = processes(site)
            as_many = all(len(now[name]) == len(before[name]) for name in before)
            return killed not in now[kind] and as_many and {how for _, how in visits.answered[-10:]} == {"200"}

        wait_until(back, 40, every=0.5)
    failed = visits.failed()
    took = max((when for when, _ in failed), default=began) - began
    print(f"kill -9 of the {kind}: served again after {took:.1f} s, {len(failed)} requests failed")
    # A start of the application, and more where the machine is busy.
    assert took < 35
    # A worker's death costs at most the requests that it was serving; clients get 502 or 503.
    assert len(failed) <= 2 or "master" in kind
    assert {how for _, how in failed} <= {"502", "503", "ConnectError", "ReadError", "RemoteProtocolError"}
    assert (site.state()["StartedAt"], site.state()["Pid"]) == (state["StartedAt"], state["Pid"])
    assert answer(site, "/static/start/start.css").status == 200


def test_a_worker_that_loads_the_application_ends_with_a_uwsgi_that_is_stopped(site: Stack) -> None:
    site.allowed += [WORKERS_DIE, r"killed by signal 9|GET /dockerable/live|connect\(\) to unix:/run/uwsgi.sock failed"]
    assert seconds_of_a_stop(site) < 50
    site.wait_healthy()
    assert site.get("/show").status_code == 200


# The last, since it ends the module's container.
def test_an_idle_container_stops_at_once(site: Stack) -> None:
    # A worker that still loads the application would end after that.
    wait_until(lambda: all(worker["accepting"] for worker in site.uwsgi()["workers"]))
    with site.client() as client:
        # A connection that is kept alive is no request.
        client.get("/show")
        began = time.monotonic()
        assert site.stop() == 0
    took = time.monotonic() - began
    print(f"an idle stop took {took:.1f} s")
    # Below any stopwaitsecs of a program that takes part.
    assert took < 9
    assert site.last_line() == "cmd: stopped"
