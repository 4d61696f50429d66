"""Request smuggling: a request that two programs could read in two ways is refused, or hides no second request."""

import json
from collections.abc import Callable

import pytest

from tests.support.http import answer, connect, parse, read_all
from tests.support.stack import Stack
from tests.support.wait import wait_until

HOST = b"Host: localhost\r\n"
# The hidden request that a smuggler puts behind the visible one.
HIDDEN = b"GET /show/hidden HTTP/1.1\r\nHost: localhost\r\n\r\n"
POST = b"POST /body HTTP/1.1\r\n" + HOST
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n"
REFUSED = {
    "length and chunks": POST + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunks and length": CHUNKED + b"Content-Length: 3\r\n\r\n0\r\n\r\n",
    "two lengths": POST + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
    "the same length twice": POST + b"Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
    "a list of lengths": POST + b"Content-Length: 3, 3\r\n\r\nabc",
    "a length with a plus": POST + b"Content-Length: +3\r\n\r\nabc",
    "a length below zero": POST + b"Content-Length: -1\r\n\r\n",
    "a hexadecimal length": POST + b"Content-Length: 0x3\r\n\r\nabc",
    "a length beyond counting": POST + b"Content-Length: 99999999999999999999\r\n\r\nabc",
    "an empty length": POST + b"Content-Length:\r\n\r\nabc",
    "two codings": POST + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    "chunked twice": CHUNKED + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "an unknown coding": POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "a tab before the coding's end": POST + b"Transfer-Encoding: chunked\x0b\r\n\r\n0\r\n\r\n",
    "a space before a colon": POST + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
    "chunks in HTTP/1.0": POST.replace(b"1.1", b"1.0") + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "a folded header": POST + b"Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n",
    "a folded first header": b"GET /show HTTP/1.1\r\n X-A: 1\r\n" + HOST + b"\r\n",
    "a carriage return alone": b"GET /show HTTP/1.1\r\n" + HOST + b"X-A: 1\rX-B: 2\r\n\r\n",
    "a NUL in a header": b"GET /show HTTP/1.1\r\n" + HOST + b"X-A: \0\r\n\r\n",
    "a NUL in a header's name": b"GET /show HTTP/1.1\r\n" + HOST + b"X\0A: 1\r\n\r\n",
    "a NUL in the path": b"GET /show\0 HTTP/1.1\r\n" + HOST + b"\r\n",
    "a coded NUL in the path": b"GET /show%00 HTTP/1.1\r\n" + HOST + b"\r\n",
    "a path above the root": b"GET /../show HTTP/1.1\r\n" + HOST + b"\r\n",
    "a chunk's size with a minus": CHUNKED + b"\r\n-3\r\nabc\r\n0\r\n\r\n",
    "a chunk's size with a prefix": CHUNKED + b"\r\n0x3\r\nabc\r\n0\r\n\r\n",
    "a chunk's size beyond counting": CHUNKED + b"\r\nfffffffffffffffff\r\nabc\r\n0\r\n\r\n",
    "a chunk longer than its size": CHUNKED + b"\r\n2\r\nabc\r\n0\r\n\r\n",
    "a chunk without a size": CHUNKED + b"\r\n;a=b\r\nabc\r\n0\r\n\r\n",
    "an unknown version": b"GET /show HTTP/9.9\r\n" + HOST + b"\r\n",
    "a method in small letters": b"get /show HTTP/1.1\r\n" + HOST + b"\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "CONNECT": b"CONNECT localhost:8080 HTTP/1.1\r\n" + HOST + b"\r\n",
    "CONNECT to a path": b"CONNECT /show HTTP/1.1\r\n" + HOST + b"\r\n",
    "TRACE": b"TRACE /show HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n",
}
# What RFC 9112 lets a server read leniently, and how long the body then is.
READ = {
    "bare line feeds": (POST.replace(b"\r", b"") + b"Content-Length: 3\n\nabc", 3),
    "chunks with extensions": (CHUNKED + b'\r\n3;a=b;c="0\\r\\n"\r\nabc\r\n0;x\r\n\r\n', 3),
    "chunks with bare line feeds": (CHUNKED + b"\r\n3\nabc\n0\n\n", 3),
    "chunks with a trailer": (CHUNKED + b"\r\n3\r\nabc\r\n0\r\nContent-Length: 99\r\n\r\n", 3),
    "a length that begins with a zero": (POST + b"Content-Length: 003\r\n\r\nabc", 3),
    "a request within the body": (POST + f"Content-Length: {len(HIDDEN)}\r\n\r\n".encode() + HIDDEN, len(HIDDEN)),
}
LAST = b"GET /show/last HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


@pytest.fixture(scope="module")
def site_stack() -> Stack:
    stack = Stack.trial()
    stack.allowed = ["client sent invalid chunked body", "too large body", "csrf.*: Forbidden"]
    return stack


def handled(site: Stack) -> int:
    """How many requests uWSGI's workers have finished."""
    return sum(worker["requests"] for worker in site.uwsgi()["workers"])


def reached(site: Stack, send: Callable[[], None], expected: int) -> int:
    """How many requests `send` makes uWSGI's workers finish.

    The fewest of three attempts: PID 1's own request, every five seconds, may come within one.
    """
    found: list[int] = []
    while len(found) < 3 and expected not in found:
        before = handled(site)
        send()
        wait_until(lambda: handled(site) >= before + expected)  # noqa: B023
        found.append(handled(site) - before)
    return min(found)


@pytest.mark.parametrize("name", REFUSED)
def test_a_request_of_two_meanings_is_refused_with_all_that_follows_it(site: Stack, name: str) -> None:
    def send() -> None:
        with connect(site) as connection:
            connection.sendall(REFUSED[name] + HIDDEN)
            received = read_all(connection)
        refused = parse(received)
        assert refused.status in (400, 405, 413, 501, 505)
        assert f"<small>{refused.status}, request <code>".encode() in refused.body
        assert received.count(b"HTTP/1.1 ") == 1

    assert reached(site, send, 0) == 0


@pytest.mark.parametrize("name", READ)
def test_what_may_be_read_leniently_is_read_once(site: Stack, name: str) -> None:
    request, length = READ[name]

    def send() -> None:
        with connect(site) as connection:
            connection.sendall(request + LAST)
            received = read_all(connection).decode()
        assert received.count("HTTP/1.1 200 ") == received.count("HTTP/1.1 ") == 2
        assert received.index(f'"length": {length}') < received.index('"path": "/show/last"')
        assert "/show/hidden" not in received

    assert reached(site, send, 2) == 2


@pytest.mark.parametrize("method", ["OPTIONS", "PROPFIND", "PATCH", "PURGE", "A-VERY-LONG-METHOD-OF-NO-MEANING"])
def test_an_odd_method_reaches_the_application_once_or_not_at_all(site: Stack, method: str) -> None:
    given = answer(site, "/show", method=method, headers="Content-Length: 0\r\n")
    assert given.status in (200, 400, 403, 405)
    if given.status == 200:
        assert json.loads(given.body)["meta"]["REQUEST_METHOD"] == method
