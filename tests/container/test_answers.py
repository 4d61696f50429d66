"""Answers arrive whole, whatever a view did with the body, with processes and files, and however long it was busy."""

import json
import re
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.support.http import Answer, answer
from tests.support.stack import Stack
from tests.support.wait import wait_until

MEGABYTE = 1 << 20
HARAKIRI = 6  # seconds; a request may wait for ten
# The view's CONTENT.
CONTENT = b"".join(b"%07d\n" % number for number in range(40_000))
# The sockets with a path, a connection's or a listening one's, that a running `sleep 20` holds.
HELD = r"""
import pathlib, re
paths = {line.split()[6]: line.split()[7] for line in open("/proc/net/unix") if len(line.split()) == 8}
for process in pathlib.Path("/proc").glob("[0-9]*"):
    try:
        if (process / "cmdline").read_bytes() == b"sleep\0" b"20\0":
            for descriptor in (process / "fd").iterdir():
                inode = re.sub(r"\D", "", str(descriptor.readlink()))
                print(paths.get(inode, "held"))
    except OSError:
        pass
"""


@pytest.fixture(scope="module")
def site_stack() -> Stack:
    variables = {"UWSGI_PROCESSES": "2", "UWSGI_HARAKIRI": str(HARAKIRI), "NGINX_SEND_TIMEOUT": "2"}
    stack = Stack.trial({**variables, "NGINX_CLIENT_MAX_BODY_SIZE": "300m"})
    stack.allowed = [r"django\.request.*: Unauthorized"]
    return stack


def post(site: Stack, path: str, length: int) -> httpx.Response:
    """POST a body of that many bytes."""
    blocks = (b"a" * min(MEGABYTE, length - sent) for sent in range(0, length, MEGABYTE))
    with site.client(timeout=120) as client:
        return client.post(path, content=blocks, headers={"Content-Length": str(length)})


@pytest.mark.parametrize(
    ("kilobytes", "query", "length"),
    [
        (1, "", 15 * MEGABYTE),
        (600, "", 15 * MEGABYTE),
        (1, "?streamed", 15 * MEGABYTE),
        (600, "?streamed", 15 * MEGABYTE),
        (1, "?streamed", 300_000),
        (1, "?streamed", 100),
        (1, "?read=1000", 15 * MEGABYTE),
        (1, "?read=1000&streamed", 15 * MEGABYTE),
    ],
)
def test_an_answer_arrives_although_the_body_was_not_read(site: Stack, kilobytes: int, query: str, length: int) -> None:
    def refused(_: int) -> tuple[int, int]:
        given = post(site, f"/refuse/{kilobytes}{query}", length)
        return given.status_code, len(given.content)

    with ThreadPoolExecutor(2) as pool:
        assert Counter(pool.map(refused, range(8))) == {(401, kilobytes * 1024): 8}


def test_an_answer_arrives_although_200_megabytes_were_not_read(site: Stack) -> None:
    given = post(site, "/refuse/1?streamed", 200 * MEGABYTE)
    assert (given.status_code, len(given.content)) == (401, 1024)


def test_a_large_body_waits_for_a_view_that_takes_its_time(site: Stack) -> None:
    # Longer than NGINX_SEND_TIMEOUT, which is about clients.
    assert post(site, "/slow/4", 2 * MEGABYTE).text == "slept 4 s\n"


@pytest.mark.parametrize("by", ["system", "fork"])
def test_an_answer_does_not_wait_for_a_process_that_the_view_started(site: Stack, by: str) -> None:
    began = time.monotonic()
    assert site.get(f"/child?by={by}&seconds=20").text == "answered\n"
    assert time.monotonic() - began < 15


def test_a_program_that_a_view_starts_holds_no_socket_of_ours(site: Stack) -> None:
    site.get("/child?by=system&seconds=20")
    held = site.exec("python3", "-c", HELD).split()
    assert set(held) == {"held"}, held


@pytest.mark.parametrize("kind", ["plain", "gzip", "decrypting", "memory", "pipe", "django", "text", "rest"])
def test_a_file_is_sent_as_it_is_read(site: Stack, kind: str) -> None:
    given = site.get(f"/file/{kind}")
    expected = CONTENT[len(CONTENT) // 2 :] if kind == "rest" else CONTENT
    assert given.status_code == 200
    assert given.content == expected
    assert given.headers.get("content-length", str(len(expected))) == str(len(expected))


def test_a_request_that_waited_is_answered_or_was_not_begun(site: Stack) -> None:
    """Two workers, eight requests of four seconds at once: the last two would wait for twelve."""
    before = len(site.logs().splitlines())
    json_wanted = "Accept: application/json\r\n"

    def ask(number: int) -> Answer:
        return answer(site, f"/slow/4?{number}", headers=json_wanted if number % 2 else "")

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(ask, range(8)))
    assert Counter(one.status for one in answers) == {200: 6, 503: 2}
    for refused in (one for one in answers if one.status == 503):
        assert (refused["retry-after"], refused["cache-control"]) == ("3", "no-store")
        assert b"has waited too long and was not begun." in refused.body
        assert b"Starting" not in refused.body
        assert not refused.repeated()
        if refused["content-type"] == "application/problem+json":
            assert json.loads(refused.body)["request_id"] == refused["x-request-id"]

    def said() -> str:
        return "\n".join(site.logs().splitlines()[before:])

    # The access log tells how long it waited.
    told = re.compile(r"/slow/4\?\d HTTP/1.1\" 503 \d+ \S+ uwsgi 1\d\.")
    wait_until(lambda: len(told.findall(said())) == 2, 10)
    assert "uwsgi: error: " not in said()


def test_nothing_is_begun_for_clients_that_have_left(site: Stack) -> None:
    def leave(_: int) -> None:
        with site.client(timeout=3) as client, pytest.raises(httpx.ReadTimeout):
            client.get("/slow/4")

    with ThreadPoolExecutor(12) as pool:
        list(pool.map(leave, range(12)))
    began = time.monotonic()
    assert site.get("/show").status_code == 200
    # At most what two workers had begun; all of it would take 20 s more.
    assert time.monotonic() - began < 2 * HARAKIRI
