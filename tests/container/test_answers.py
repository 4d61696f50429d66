"""Answers arrive whole, whatever a view did with the body, with processes and files, and however long it was busy."""

import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.support.stack import Stack

MEGABYTE = 1 << 20
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
    stack = Stack.trial({"UWSGI_PROCESSES": "2", "NGINX_CLIENT_MAX_BODY_SIZE": "300m"})
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
