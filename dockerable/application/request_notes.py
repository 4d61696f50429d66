"""The file in /run/workers in which a worker records the newest request of each of its threads.

The worker writes through a memory map: that needs no system call for each request, and what was written survives a
SIGKILL. The worker that replaces it reads the file (harakiri_report.py). Standard library only.
"""

import itertools
import mmap
import signal
import struct
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

# The file begins with the worker's pid and the number of OOM kills in the container before the worker began.
HEAD = struct.Struct("<qq")
# Then follows a slot for each thread with its newest request: begin and end (monotonic seconds; the end is 0 while it
# runs), thread id, request id (as long as nginx/request-id.conf lets it be), "METHOD URL".
SLOT = struct.Struct("<ddQ128s928s")
END = struct.Struct("<d")
CRASHES = {signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGABRT}


@dataclass(frozen=True)
class Request:
    """A slot's content: one request, in monotonic seconds (`end` is 0 while it runs)."""

    begin: float
    end: float
    thread: int
    id: str
    line: str

    def ran_at(self, moment: float) -> bool:
        """Whether the request was being served at this monotonic time, or never ended."""
        return self.begin > 0 and (self.end == 0 or self.begin <= moment <= self.end)


@dataclass(frozen=True)
class Notes:
    """A file's content: the worker's pid, the OOM kills before it, the newest request of each thread."""

    pid: int = 0
    oom_kills: int = 0
    requests: list[Request] = field(default_factory=list)


def size(threads: int) -> int:
    """The bytes of the file of a worker with this many threads."""
    return HEAD.size + threads * SLOT.size


def notes(slots: mmap.mmap, threads: int) -> tuple[Callable[[Mapping[str, Any]], None], Callable[[], None]]:
    """Two functions that record the begin and the end of the calling thread's request, in 2 to 3 µs together."""
    places: dict[int, int] = {}
    free = itertools.count(HEAD.size, SLOT.size)
    pack, pack_end, now, thread_id = SLOT.pack_into, END.pack_into, time.monotonic, threading.get_ident

    def begin(environ: Mapping[str, Any]) -> None:
        thread = thread_id()
        if (place := places.get(thread)) is None:
            if len(places) >= threads:
                return  # Not one of uWSGI's threads.
            place = places[thread] = next(free)
            # uWSGI blocks all signals in all threads but the first, so a crash in another would leave no stack.
            signal.pthread_sigmask(signal.SIG_UNBLOCK, CRASHES)
        line = f"{environ['REQUEST_METHOD']} {environ.get('REQUEST_URI', '')}".encode("latin-1", "replace")
        pack(slots, place, now(), 0.0, thread, environ.get("HTTP_X_REQUEST_ID", "").encode("latin-1", "replace"), line)

    def end() -> None:
        if (place := places.get(thread_id())) is not None:
            pack_end(slots, place + END.size, now())

    return begin, end


def read(content: bytes) -> Notes:
    """Parse a worker's file; empty Notes if the file has no head yet."""
    if len(content) < HEAD.size:
        return Notes()
    pid, oom_kills = HEAD.unpack_from(content)
    used = HEAD.size + (len(content) - HEAD.size) // SLOT.size * SLOT.size
    slots = SLOT.iter_unpack(content[HEAD.size : used])
    requests = [Request(begin, end, thread, _text(name), _text(line)) for begin, end, thread, name, line in slots]
    return Notes(pid, oom_kills, requests)


def _text(content: bytes) -> str:
    return content.rstrip(b"\0").decode("latin-1")
