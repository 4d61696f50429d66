"""Clients that send or read slowly, or not at all: others are served, and connections without progress are cut."""

import contextlib
import re
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from tests.support.docker import LABEL, docker
from tests.support.http import connect, read_all
from tests.support.stack import Stack
from tests.support.tree import helper_image
from tests.support.wait import wait_until

LIMIT = 2  # seconds of each of nginx's timeouts here
MEGABYTES = 40  # of an answer: more than the socket buffers on the way hold
POST = b"POST /body HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 1000000\r\n\r\n"
GET_LARGE = f"GET /large/{MEGABYTES} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()


@pytest.fixture(scope="module")
def site_stack() -> Stack:
    names = ("CLIENT_HEADER", "CLIENT_BODY", "SEND", "KEEPALIVE")
    return Stack.trial({f"NGINX_{name}_TIMEOUT": str(LIMIT) for name in names})


@contextlib.contextmanager
def opened(site: Stack, number: int, request: bytes = b"") -> Iterator[list[socket.socket]]:
    """That many connections, on each of which this was sent."""
    with contextlib.ExitStack() as stack:
        connections = [stack.enter_context(connect(site)) for _ in range(number)]
        for connection in connections:
            connection.sendall(request)
        yield connections


@contextlib.contextmanager
def dripping(connections: list[socket.socket], byte: bytes, every: float = 0.1) -> Iterator[list[float]]:
    """Send a byte on each connection every few seconds; returns when each closed connection was closed."""
    ends: list[float] = []
    done = threading.Event()

    def drip() -> None:
        left = list(connections)
        while left and not done.wait(every):
            for connection in list(left):
                try:
                    connection.sendall(byte)
                except OSError:
                    left.remove(connection)
                    ends.append(time.monotonic())

    thread = threading.Thread(target=drip)
    thread.start()
    try:
        yield ends
    finally:
        done.set()
        thread.join()


def assert_others_are_served(site: Stack, times: int = 5) -> None:
    for _ in range(times):
        began = time.monotonic()
        assert site.get("/show").status_code == 200
        assert time.monotonic() - began < 10


def assert_cut(connections: list[socket.socket], began: float, until: float = LIMIT + 3) -> None:
    """All are closed in time, and none had an answer from the application."""
    for connection in connections:
        connection.settimeout(max(0.1, began + until - time.monotonic()))
        assert b" 200 " not in read_all(connection)


@pytest.mark.parametrize(
    "request_part", [b"", b"GET /show HTTP/1.1\r\nHost: loc", POST + b"abc"], ids=["none", "head", "body"]
)
def test_five_hundred_silent_clients_stop_nobody_and_are_cut(site: Stack, request_part: bytes) -> None:
    began = time.monotonic()
    with opened(site, 500, request_part) as connections:
        assert_others_are_served(site)
        assert_cut(connections, began, LIMIT + 8)


def test_headers_that_drip_are_cut_although_they_never_stop(site: Stack) -> None:
    began = time.monotonic()
    with opened(site, 50, b"GET /show HTTP/1.1\r\nX-A: ") as connections, dripping(connections, b"a") as ends:
        assert_others_are_served(site)
        wait_until(lambda: len(ends) == len(connections), LIMIT + 5)
        assert max(ends) - began < LIMIT + 4


def test_bodies_that_drip_take_no_worker(site: Stack) -> None:
    # More of them than workers, for longer than the timeout, which counts from the last byte.
    with opened(site, 100, POST) as connections, dripping(connections, b"a") as ends:
        until = time.monotonic() + LIMIT + 1
        while time.monotonic() < until:
            assert_others_are_served(site, 1)
        assert ends == []


def test_answers_that_nobody_reads_take_no_worker_and_are_cut(site: Stack) -> None:
    with opened(site, 12, GET_LARGE) as connections:
        wait_until(lambda: site.logs().count("GET /large/") >= len(connections), LIMIT + 15)
        assert_others_are_served(site)
        for connection in connections:
            assert len(read_all(connection)) < MEGABYTES << 20


def test_an_answer_that_is_read_slowly_is_complete(site: Stack) -> None:
    with connect(site) as connection:
        connection.sendall(GET_LARGE.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        received, began = 0, time.monotonic()
        # In steps small enough that nginx can write something every second.
        while block := connection.recv(200_000):
            received += len(block)
            if time.monotonic() - began < 2 * LIMIT:
                time.sleep(0.02)
    assert received > MEGABYTES << 20


def test_a_connection_that_is_kept_open_ends_when_it_is_idle(site: Stack) -> None:
    began = time.monotonic()
    with opened(site, 1, b"GET /show HTTP/1.1\r\nHost: localhost\r\n\r\n") as (connection,):
        assert read_all(connection).startswith(b"HTTP/1.1 200 ")
    assert LIMIT - 1 < time.monotonic() - began < LIMIT + 3


@pytest.fixture(scope="module")
def patient() -> Iterator[Stack]:
    """A site with the timeouts as they are by default."""
    stack = Stack.trial()
    try:
        yield stack.up()
        assert not stack.trouble(), stack.report()
    finally:
        stack.remove()


@pytest.mark.parametrize(
    "attack",
    [
        ("-H", "-u", "http://localhost:8080/show"),
        ("-B", "-s", "100000", "-u", "http://localhost:8080/body"),
        ("-X", "-w", "256", "-y", "512", "-n", "1", "-z", "32", "-u", "http://localhost:8080/large/1"),
    ],
    ids=["headers", "body", "reading"],
)
def test_slowhttptest_does_not_find_the_site_unavailable(patient: Stack, attack: tuple[str, ...]) -> None:
    """It asks itself, every second, whether it gets an answer in five."""
    words = ("run", "--rm", "--label", LABEL, "--network", f"container:{patient.name}", helper_image("load"))
    # 400 connections within eight seconds, data every two, fourteen seconds in all.
    told = docker(*words, "slowhttptest", "-c", "400", "-r", "50", "-i", "2", "-l", "14", "-p", "5", *attack)
    available = re.findall(r"service available:\W*(?:\[\d+m)?(\w+)", re.sub(r"\x1b\[[\d;]*m", "", told))
    assert len(available) > 1 and set(available) == {"YES"}, told
