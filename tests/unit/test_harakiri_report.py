"""The notes that a worker keeps of its requests, and the report that its successor makes from them."""

import mmap
import os
import threading
import time
from pathlib import Path

import pytest

from dockerable.application import harakiri_report, request_notes


class Notes:
    """A worker's files, as it leaves them."""

    def __init__(self, folder: Path) -> None:
        self.requests, self.stacks = folder / "1.requests", folder / "1.stacks"
        self.stacks.touch()
        self.slots = mmap.mmap(-1, request_notes.HEAD.size + request_notes.SLOT.size)
        request_notes.HEAD.pack_into(self.slots, 0, 42, 0)
        self.begin, self.end = request_notes.notes(self.slots, 1)

    def note(self, uri: str) -> None:
        self.begin({"REQUEST_METHOD": "GET", "REQUEST_URI": uri, "HTTP_X_REQUEST_ID": "abc"})

    def dump(self, stack: str) -> None:
        self.stacks.write_text(f"Current thread 0x{threading.get_ident():016x} (most recent call first):\n{stack}\n")

    def lines(self) -> list[str]:
        self.requests.write_bytes(self.slots[:])
        return [line.decode() for line in harakiri_report.report(self.requests, self.stacks, 1, 60.0)]


@pytest.fixture
def left(tmp_path: Path) -> Notes:
    return Notes(tmp_path)


def test_a_worker_that_ended_well_leaves_nothing_to_say(left: Notes, tmp_path: Path) -> None:
    assert left.lines() == []
    left.note("/a")
    left.end()
    assert left.lines() == []
    assert list(harakiri_report.report(tmp_path / "none", left.stacks, 1, 60.0)) == []


def test_a_request_that_ended_in_the_last_second_is_named_too(left: Notes) -> None:
    now = time.monotonic()
    left.dump('  File "views.py", line 1 in late')
    os.utime(left.stacks, times=(time.time() - 2,) * 2)
    noted = (threading.get_ident(), b"abc", b"GET /late")
    request_notes.SLOT.pack_into(left.slots, request_notes.HEAD.size, now - 62, now - 1, *noted)
    (line,) = left.lines()
    assert "worker 1 (pid 42) was replaced: slower than UWSGI_HARAKIRI=60 is GET /late (request id abc, 61.0 s" in line
    assert r"most recent call first:\n  File" in line

    # The thread's next one has nothing to do with it.
    request_notes.SLOT.pack_into(left.slots, request_notes.HEAD.size, now - 1, now - 0.5, *noted)
    (line,) = left.lines()
    assert "another of its threads was" in line


def test_whatever_a_url_holds_the_report_is_one_line_that_one_write_keeps_together(left: Notes) -> None:
    left.note("/\n\r\t\x00\x1b[0m\x7f\x85\xad" + "x" * 3000)
    left.dump('  File "views.py", line 1 in view\n' * 1000)
    (line,) = left.lines()
    assert line.endswith("\n")
    assert line[:-1].isprintable()
    assert len(line.encode()) <= 4096
    assert r'(request id abc, 0.0 s until then); most recent call first:\n  File "views.py", line 1 in view\n' in line
