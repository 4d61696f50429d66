"""A request that takes too long: its worker is replaced, its stack is logged, and other requests are served."""

import re
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support.http import Answer, answer, ask
from tests.support.load import load
from tests.support.stack import WORKERS_DIE, Stack
from tests.support.wait import wait_until

HARAKIRI = 2
# uWSGI counts in whole seconds and looks once a second: signal, and kill a second later. nginx waits for five.
LATEST = HARAKIRI + 4.9
REPORT = re.compile(r"error: worker (\d+) \(pid (\d+)\) .*")
# The line of the stack that a view is found by; what it does at the end goes on without Python, with the interpreter.
SLOW = {
    "/slow/30": "in slow",
    "/pattern/50": "in fullmatch",
    "/spin/30": "in spin",
    "/drip/30": "in lines",
}
ODD = "?a=%0aerror:%20forged\x85error:forged"
KILLED = r"worker \d+ \(pid \d+\) (was|crashed)|upstream prematurely closed|killed by signal|Segmentation"


@pytest.fixture(scope="module")
def site_stack() -> Stack:
    # The engine's own address is a proxy, whose ids are kept.
    proxies = "10.0.0.0/8 172.16.0.0/12 192.168.0.0/16"
    variables = {"UWSGI_HARAKIRI": str(HARAKIRI), "UWSGI_PROCESSES": "5", "TRUSTED_PROXIES": proxies}
    stack = Stack.trial(variables)
    stack.allowed = [WORKERS_DIE, KILLED, "forged"]
    return stack


def reports(stack: Stack, path: str) -> list[str]:
    """The lines about killed workers that name this path."""
    found = [match[0] for match in map(REPORT.search, stack.logs().splitlines()) if match]
    return [line for line in found if f" {path}" in line]


@pytest.fixture(scope="module")
def slow(site: Stack) -> dict[str, tuple[Answer | None, float, list[str]]]:
    """Every slow view at once: its answer, how long it took, the lines about it."""

    def get(path: str) -> tuple[Answer | None, float]:
        began = time.monotonic()
        return ask(site, path + ODD), time.monotonic() - began

    with load(site, "/show", 1, 0.05) as others, ThreadPoolExecutor(len(SLOW)) as pool:
        answers = dict(zip(SLOW, pool.map(get, SLOW), strict=True))
        meanwhile = others.answered["200"]
        wait_until(lambda: all(reports(site, path) for path in SLOW))
    assert others.failed() == {}
    assert meanwhile > 10
    return {path: (*answers[path], reports(site, path)) for path in SLOW}


@pytest.mark.parametrize("path", SLOW)
def test_a_slow_request_ends_and_the_log_names_it_with_its_stack(
    slow: dict[str, tuple[Answer | None, float, list[str]]], path: str
) -> None:
    given, took, lines = slow[path]
    assert given
    # The head of /drip was sent before; its end is missing.
    assert given.status == (200 if path.startswith("/drip") else 502)
    assert HARAKIRI - 1 < took < LATEST
    (line,) = lines
    assert f"slower than UWSGI_HARAKIRI={HARAKIRI} is GET {path}?a=%0aerror:%20forged\\x85error:forged " in line
    request_id = given["x-request-id"] or "none"
    assert f"(request id {request_id}," in line
    stack = line.split(r"most recent call first:\n")[1].split(r"\n")
    assert any("tests" not in one and "/settings/trial/urls.py" in one for one in stack)
    assert any(one.endswith(SLOW[path]) for one in stack[:3]), stack[:3]
    assert len(line.encode()) < 4096


def test_no_line_of_the_log_begins_as_the_url_said(
    site: Stack, slow: dict[str, tuple[Answer | None, float, list[str]]]
) -> None:
    assert "forged" in site.logs()
    assert not [line for line in site.logs().splitlines() if re.match(r"(\w+: )?error: ?forged", line)]


def test_a_worker_that_dies_or_crashes_says_which_request_it_was(site: Stack) -> None:
    site.allowed += [r"^(/|!!!|\*\*\*).*"]  # uWSGI's own backtrace
    # The longest id that nginx accepts.
    identity = "proxy-" + "0123456789" * 12 + ".z"
    assert len(identity) == 128
    assert site.get("/die", X_Request_ID=identity).status_code == 502
    assert site.get("/segfault").status_code == 502
    (died,) = wait_until(lambda: reports(site, "/die"))
    assert f" was killed during GET /die (request id {identity}, " in died
    (crashed,) = wait_until(lambda: reports(site, "/segfault"))
    assert " crashed (Fatal Python error: Segmentation fault) during GET /segfault " in crashed
    assert '/settings/trial/urls.py", line' in crashed


@pytest.fixture(scope="module")
def threaded() -> Stack:
    variables = {"UWSGI_HARAKIRI": str(HARAKIRI), "UWSGI_PROCESSES": "1", "UWSGI_THREADS": "4"}
    stack = Stack.trial(variables)
    stack.allowed = [WORKERS_DIE, KILLED, r"^(/|!!!|\*\*\*).*"]
    return stack


def test_with_threads_each_request_has_its_own_deadline_and_the_others_are_answered(
    threaded: Stack, new_stack: Callable[[Stack], Stack]
) -> None:
    site = new_stack(threaded).up()
    with load(site, "/show", 2, 0.1) as others:
        began = time.monotonic()
        # Each request of another thread would postpone uWSGI's own deadline.
        assert answer(site, "/slow/30").status == 502
        assert HARAKIRI - 0.5 < time.monotonic() - began < LATEST
        wait_until(lambda: others.answered["200"] > 50)
    assert others.failed() == {}
    (line,) = wait_until(lambda: reports(site, "/slow/30"))
    assert f"slower than UWSGI_HARAKIRI={HARAKIRI} is GET /slow/30 " in line
    assert r"in slow\n" in line
    assert reports(site, "/show") == []

    # C code that does not release the interpreter, and from time to time another request, which waits for it.
    began = time.monotonic()
    waiting = threading.Timer(1.5, lambda: [site.get("/show") for _ in range(2)])
    waiting.start()
    assert answer(site, "/pattern/50").status == 502
    assert time.monotonic() - began < 12
    waiting.join()
    (line,) = wait_until(lambda: reports(site, "/pattern/50"))
    assert r"in fullmatch\n" in line

    # A crash in any of its threads.
    def crashes() -> int:
        return len([line for line in reports(site, "/segfault") if "/settings/trial/urls.py" in line])

    for number in (1, 2, 3):
        assert answer(site, "/segfault").status == 502
        wait_until(lambda: crashes() == number)  # noqa: B023
