"""Requests that are too large, too slow or cut off, and others that must not be affected."""

import contextlib
import hashlib
import json
import re
import socket
import string
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice, product

import httpx
import pytest

from tests.support.docker import docker
from tests.support.http import answer, connect, read_all
from tests.support.stack import WORKERS_DIE, Stack

HARAKIRI = 3  # seconds
LINE = 8 * 1024  # bytes that one of nginx's large_client_header_buffers holds, and there are
BUFFERS = 4
HEADERS = 1000  # that nginx takes in one request
LIVE_SOCKET = """
import socket, sys
with socket.socket(socket.AF_UNIX) as connection:
    connection.connect("/run/health.sock")
    connection.sendall(b"GET /show HTTP/1.0\\r\\nHost: evil.test\\r\\n\\r\\n")
    print(connection.makefile().read())
"""


@pytest.fixture(scope="module")
def site_stack() -> Stack:
    stack = Stack.trial()
    stack.allowed = [
        WORKERS_DIE,
        r"django\.request.*: (Not Found|Bad Request|Internal Server Error)",
        r"recv\(\) failed",
        r"upstream prematurely closed connection .*GET /die|error: worker .* was killed during GET /die",
        # /crash
        "Traceback|RuntimeError: as the test asked|core/handlers/exception.py",
    ]
    return stack


@pytest.fixture(scope="module")
def hurried() -> Iterator[Stack]:
    """A site whose views may take a few seconds only."""
    stack = Stack.trial({"UWSGI_HARAKIRI": str(HARAKIRI)})
    stack.allowed = [
        WORKERS_DIE,
        r"upstream (prematurely closed connection|timed out) .*GET /slow|recv\(\) failed",
        r"error: worker .* was replaced: slower than UWSGI_HARAKIRI",
    ]
    try:
        yield stack.up()
        assert not stack.trouble(), stack.report()
    finally:
        stack.remove()


@pytest.fixture
def wildcard(new_stack: Callable[[Stack], Stack]) -> Stack:
    """A site with names of any length."""
    return new_stack(Stack.trial({"NGINX_SERVER_NAME": "*.example.com"})).up()


def header_names() -> Iterator[str]:
    """Short header names, all different: a, b, ..., aa, ab, ..."""
    for length in (1, 2, 3):
        yield from map("".join, product(string.ascii_lowercase, repeat=length))


def test_a_request_just_below_each_limit_reaches_django(site: Stack) -> None:
    target = "/show?" + "q" * (LINE - len("GET /show? HTTP/1.1\r\n") - 1)
    assert json.loads(answer(site, target).body)["meta"]["QUERY_STRING"] == target[6:]

    value = "v" * (LINE - len("X-0: \r\n") - 1)
    assert json.loads(answer(site, "/show", headers=f"X-0: {value}\r\n").body)["meta"]["HTTP_X_0"] == value

    # The last buffer holds the rest of the head as well.
    values = {f"X-{number}": "v" * (LINE - 50) for number in range(BUFFERS)}
    lines = "".join(f"{name}: {value}\r\n" for name, value in values.items())
    meta = json.loads(answer(site, "/show", headers=lines).body)["meta"]
    assert {name: meta[f"HTTP_{name.replace('-', '_')}"] for name in values} == values


def test_a_long_path_and_large_headers_together_reach_django(site: Stack) -> None:
    # What uWSGI is sent is larger than what came: the path stands there twice, decoded and as it was.
    lines = "".join(f"X-{number}: {'v' * (LINE - 50)}\r\n" for number in range(BUFFERS - 1))
    path = "/show/" + "p" * (LINE - 50)
    assert json.loads(answer(site, path, headers=lines).body)["path"] == path


def test_the_largest_head_that_nginx_takes_fits_into_uwsgis_buffer(wildcard: Stack) -> None:
    # Path, name and type are handed on twice, and each of many small headers grows by its prefix and lengths.
    host, kind = "h" * (LINE - 50) + ".example.com", "t" * (LINE - 50)
    small = "".join(f"{name}:\r\n" for name in islice(header_names(), 980))
    path = "/show/" + "p" * (LINE - 50)
    given = answer(wildcard, path, host=host, headers=f"Content-Type: {kind}\r\n{small}X-Rest: {'r' * 3000}\r\n")
    assert given.status == 200
    meta = json.loads(given.body)["meta"]
    assert (meta["CONTENT_TYPE"], meta["HTTP_HOST"], meta["HTTP_A"]) == (kind, host, "")


@pytest.mark.parametrize("number", [100, 200, HEADERS - 20])
def test_many_headers_reach_django(site: Stack, number: int) -> None:
    names = list(islice(header_names(), number))
    meta = json.loads(answer(site, "/show", headers="".join(f"{name}:1\r\n" for name in names)).body)["meta"]
    assert [meta[f"HTTP_{name.upper()}"] for name in names] == ["1"] * number


@pytest.mark.parametrize(
    ("target", "lines", "status"),
    [
        ("/show?" + "q" * LINE, "", 414),
        ("/show/" + "q" * 100_000, "", 414),
        ("/static/" + "q" * LINE, "", 414),
        ("/show", f"X-A: {'v' * LINE}\r\n", 431),
        ("/show", f"Cookie: {'v' * 100_000}\r\n", 431),
        ("/show", f"{'n' * LINE}: 1\r\n", 431),
        ("/show", "".join(f"X-{number}: {'v' * (LINE - 50)}\r\n" for number in range(BUFFERS + 1)), 431),
        ("/show", "".join(f"{name}:1\r\n" for name in islice(header_names(), HEADERS + 1)), 431),
        ("/show", "".join(f"{name}:\r\n" for name in islice(header_names(), 6000)), 431),
    ],
    ids=["query", "path", "file", "header", "cookie", "name", "headers", "many", "empty"],
)
def test_what_is_too_large_is_refused_by_nginx(site: Stack, target: str, lines: str, status: int) -> None:
    refused = answer(site, target, headers=lines)
    assert refused.status == status
    assert f"<small>{status}, request <code>".encode() in refused.body


def assert_ended_and_not_starting(ended: httpx.Response) -> None:
    assert ended.status_code in (502, 504)
    assert "retry-after" not in ended.headers
    assert "Starting" not in ended.text


def test_a_slow_view_is_ended_by_harakiri(hurried: Stack) -> None:
    began = time.monotonic()
    assert_ended_and_not_starting(hurried.get("/slow/15"))
    assert time.monotonic() - began < HARAKIRI + 5 + 3
    assert hurried.says("HARAKIRI ON WORKER")
    # The replacement of the killed worker logs it.
    assert hurried.says("is GET /slow/15 (request id ")


def test_the_others_are_served_while_a_view_is_slow_and_ended(hurried: Stack) -> None:
    began = time.monotonic()
    with ThreadPoolExecutor() as pool:
        slow = pool.submit(hurried.get, "/slow/20")
        while not slow.done():
            asked = time.monotonic()
            assert hurried.get("/show").status_code == 200
            assert time.monotonic() - asked < 3
            time.sleep(0.05)
    assert_ended_and_not_starting(slow.result())
    assert time.monotonic() - began < HARAKIRI + 5 + 3


def test_a_worker_that_dies_costs_one_request(site: Stack) -> None:
    for _ in range(3):
        died = site.get("/die")
        assert died.status_code == 502
        assert "retry-after" not in died.headers
        assert "Starting" not in died.text
        for _ in range(20):
            assert site.get("/show").status_code == 200


# The requests, a sign of life that was asked for when it was stopped, the end of a worker that a test before killed.
EXPECTED = re.compile(
    r'^nginx\.access: .*(/show HTTP/1\.1" 503|start\.css HTTP/1\.1" 200)'
    r"|^nginx\.error: .*GET /dockerable/live|^uwsgi: error: .* was killed during GET /die "
)


def assert_told_to_come_again(site: Stack, method: str) -> None:
    told = answer(site, "/show", method=method, headers="Content-Length: 0\r\n")
    assert (told.status, told["retry-after"], told["cache-control"]) == (503, "3", "no-store"), method
    assert told["content-type"] == "text/html"
    assert (b"Starting" in told.body) == (method != "HEAD")
    assert not told.repeated()


def test_without_an_application_all_requests_are_told_to_come_again(site: Stack) -> None:
    site.stop_application()
    before = len(site.logs().splitlines())
    try:
        for method in ("GET", "HEAD", "POST", "PUT", "DELETE"):
            assert_told_to_come_again(site, method)
        # Files need no application.
        assert answer(site, "/static/start/start.css").status == 200
        assert site.exec("healthcheck", check=False) == "the application is starting"
        said = site.logs().splitlines()[before:]
        assert [line for line in said if not EXPECTED.search(line)] == []

        # As a uWSGI leaves it that was killed: it seems ready, and nobody listens.
        site.allowed.append(r"connect\(\) to unix:/run/uwsgi.sock failed")
        site.exec("touch", "/run/ready")
        for method in ("GET", "HEAD", "POST"):
            assert_told_to_come_again(site, method)
    finally:
        # Detached, since it would wait until supervisord calls it started for good.
        docker("exec", "-d", site.name, "supervisorctl", "start", "application")
        site.wait_healthy()
    assert site.get("/show").status_code == 200


@pytest.mark.parametrize(("path", "status"), [("/show", 0), ("/admin/", 0), ("/nothing", 0), ("/crash", 1)])
def test_health_may_be_that_of_a_page(site: Stack, path: str, status: int) -> None:
    said = site.exec("sh", "-c", f"HEALTH_PATH={path} healthcheck; echo $?", check=False)
    assert said.endswith(f"\n{status}")


def test_the_page_of_the_health_check_has_our_first_name_as_its_host(site: Stack) -> None:
    request = json.loads(site.exec("python3", "-c", LIVE_SOCKET).partition("\n\n")[2])
    assert (request["url"], request["port"]) == ("http://localhost/show", "80")


@pytest.mark.parametrize(
    "lines",
    ["", "Dockerable-Live: 1\r\n", "DOCKERABLE_LIVE: 1\r\n", "HTTP_DOCKERABLE_LIVE: 1\r\n", "Host-: unix\r\n"],
)
def test_liveness_is_no_page_for_clients(site: Stack, lines: str) -> None:
    for path in ("/dockerable/live", "/dockerable/live/", "//dockerable/./live", "/dockerable/nginx"):
        missing = answer(site, path, headers=lines)
        assert missing.status == 404
        assert b"live\n" not in missing.body
        assert b"<title>Not Found</title>" in missing.body
    meta = json.loads(answer(site, "/show", headers=lines).body)["meta"]
    assert "DOCKERABLE_LIVE" not in meta


def test_the_page_for_what_cannot_be_read_is_no_page_for_clients(site: Stack) -> None:
    for method in ("GET", "HEAD", "POST"):
        assert answer(site, "/dockerable/unreadable", method=method).status == 404


@pytest.mark.parametrize(
    ("target", "path"),
    [
        ("/show/https://example.com/x", "/show/https://example.com/x"),
        ("/show/a%2F%2Fb?next=//c", "/show/a//b"),
        ("http://localhost/show/a//b", "/show/a//b"),
        ("/show/a//b#c//d", "/show/a//b"),
        ("/show/a//%C3%A4%252F", "/show/a//ä%2F"),
        ("/show/a//../b", "/show/b"),
        ("//show/a//b", "/show/a//b"),
    ],
)
def test_slashes_reach_django_as_the_client_sent_them(site: Stack, target: str, path: str) -> None:
    assert json.loads(answer(site, target).body)["path"] == path


def test_a_connection_serves_many_requests(site: Stack) -> None:
    with connect(site) as connection:
        reader = connection.makefile("rb")
        for number in range(5):
            connection.sendall(b"POST /body HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\nabc")
            status, length = reader.readline(), 0
            while (line := reader.readline().strip()) != b"":
                if line.lower().startswith(b"content-length:"):
                    length = int(line.split(b":")[1])
                assert line.lower() != b"connection: close"
            assert b" 200 " in status, number
            assert json.loads(reader.read(length))["length"] == 3


@pytest.mark.parametrize("chunks", [[b"abc"], [b"a" * 100_000, b"b" * 200_000, b"c"]])
def test_a_body_of_unknown_length_reaches_django_whole(site: Stack, chunks: list[bytes]) -> None:
    with site.client() as client:
        received = client.post("/body", content=iter(chunks)).json()
    body = b"".join(chunks)
    assert received == {"length": len(body), "sha256": hashlib.sha256(body).hexdigest()}


def test_requests_sent_at_once_are_answered_in_order(site: Stack) -> None:
    requests = "".join(f"GET /show/{number} HTTP/1.1\r\nHost: localhost\r\n\r\n" for number in range(9))
    with connect(site) as connection:
        connection.sendall(f"{requests}GET /show/9 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        received = read_all(connection).decode()
    places = [received.index(f'"path": "/show/{number}"') for number in range(10)]
    assert places == sorted(places)


@pytest.mark.parametrize("kilobytes", [17, 60])
def test_a_large_head_of_an_answer_is_whole(site: Stack, kilobytes: int) -> None:
    given = answer(site, f"/many-headers/{kilobytes}")
    assert (given.status, given.body) == (200, b"whole")
    assert sum(name.startswith("x-many-") for name, _ in given.headers) == kilobytes


def test_a_large_answer_is_complete(site: Stack) -> None:
    # Larger than what nginx keeps on disk of an answer.
    megabytes, received = 300, hashlib.sha256()
    expected = hashlib.sha256()
    for _ in range(megabytes):
        expected.update(b"x" * 1024 * 1024)
    with site.client() as client, client.stream("GET", f"/large/{megabytes}") as stream:
        for block in stream.iter_raw(1 << 20):
            received.update(block)
    assert received.digest() == expected.digest()


@contextlib.contextmanager
def clients(site: Stack, number: int, request: bytes) -> Iterator[list[socket.socket]]:
    """That many connections on each of which this much was sent."""
    with contextlib.ExitStack() as stack:
        connections = [stack.enter_context(connect(site)) for _ in range(number)]
        for connection in connections:
            connection.sendall(request)
        yield connections


@pytest.mark.parametrize(
    "request_part",
    [
        b"",
        b"GET /show HTTP/1.1\r\nHost: loc",
        b"POST /body HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\nabc",
        b"GET /large/5 HTTP/1.1\r\nHost: localhost\r\n\r\n",
    ],
    ids=["silent", "head", "body", "reader"],
)
def test_fifty_slow_clients_stop_nobody(site: Stack, request_part: bytes) -> None:
    with clients(site, 50, request_part):
        for _ in range(5):
            began = time.monotonic()
            assert site.get("/show").status_code == 200
            assert time.monotonic() - began < 10
