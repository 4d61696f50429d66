"""What a worker was doing when it was killed, and a deadline for each request of a worker with threads.

uWSGI kills a worker whose request is slower than UWSGI_HARAKIRI, the kernel one that takes too much
memory; neither says what the application did. So each worker notes its requests in a file of /run, and
at harakiri, a second before the kill, the stack of every thread is written beside it by a C handler,
which needs no turn of the interpreter and thus works inside C code too. The worker that takes the
killed one's place reads both and logs one line a request.

uWSGI counts its deadline from the newest request of a worker and forgets it when any of them ends. So a
worker with threads also has a thread that looks once a second for the oldest.

wsgi.py calls `start` when a worker has loaded the application and `begin` for each request; standard library only.
"""

import faulthandler
import itertools
import mmap
import os
import re
import signal
import struct
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dockerable.container import limits

FOLDER = Path("/run/workers")
# harakiri-graceful-signal in uwsgi.ini; a real-time signal, since uWSGI and projects use the others.
SIGNAL = 40
# A worker's file: its pid and the kernel's OOM kills until its start, then for each thread
# begin and end (monotonic seconds; the end is 0 while it runs), thread id, request id, "METHOD URL".
HEAD = struct.Struct("<qq")
# An id as long as nginx/request-id.conf lets it be.
SLOT = struct.Struct("<ddQ128s928s")
END = struct.Struct("<d")
CRASHES = {signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGABRT}
# Frames of a thread that does nothing: this module's own, and uWSGI's first while it waits.
IDLE = re.compile(
    r"/harakiri\.py\", line \d+ in watch$|\A(?:  File \"\S*/(?:application/start\.py|bin/application)\", .*\n?)+\Z",
    re.MULTILINE,
)
# The most that one write to the log's FIFO keeps together.
LONGEST = 4096
# A watching thread that is this late has no turn: a request's C code holds the interpreter.
LATE = 3.0


@dataclass(frozen=True)
class Request:
    """What a slot says: one request, in monotonic seconds (`end` is 0 while it runs)."""

    begin: float
    end: float
    thread: int
    id: str
    line: str

    def ran_at(self, moment: float) -> bool:
        """Whether it was being answered at this monotonic time, or had no end at all."""
        return self.begin > 0 and (self.end == 0 or self.begin <= moment <= self.end)


def _nothing(environ: Mapping[str, Any]) -> None:
    """Before `start`, and outside uWSGI."""


begin: Callable[[Mapping[str, Any]], None] = _nothing


def start(uwsgi: Any, threads: int, deadline: float, folder: Path = FOLDER) -> None:
    """Report on this worker's predecessor, then note requests from now on.

    `uwsgi` is uWSGI's module, `deadline` its harakiri in seconds.
    """
    global begin
    folder.mkdir(exist_ok=True)
    requests, stacks = folder / f"{uwsgi.worker_id()}.requests", folder / f"{uwsgi.worker_id()}.stacks"
    for line in report(requests, stacks, uwsgi.worker_id(), deadline):
        os.write(2, line)
    size = HEAD.size + threads * SLOT.size
    requests.write_bytes(HEAD.pack(os.getpid(), limits.oom_kills() or 0).ljust(size, b"\0"))
    with requests.open("r+b") as file:
        slots = mmap.mmap(file.fileno(), size)
    begin, end = notes(slots, threads)
    _call_after_each_request(uwsgi, end)

    # Never closed: faulthandler keeps the descriptor.
    output = stacks.open("wb", buffering=0)
    faulthandler.enable(output)
    # In the second that is left this worker takes no other request; one that ends in time has its answer.
    signal.signal(SIGNAL, lambda *_: os.kill(os.getpid(), signal.SIGHUP))
    faulthandler.register(SIGNAL, output, all_threads=True, chain=True)
    if threads > 1:
        threading.Thread(target=watch, args=(uwsgi, slots, deadline, output), daemon=True).start()


def notes(slots: mmap.mmap, threads: int) -> tuple[Callable[[Mapping[str, Any]], None], Callable[[], None]]:
    """Two functions for the beginning and the end of a thread's request; two or three microseconds together."""
    places: dict[int, int] = {}
    free = itertools.count(HEAD.size, SLOT.size)
    pack, pack_end, now, thread_id = SLOT.pack_into, END.pack_into, time.monotonic, threading.get_ident

    def begin(environ: Mapping[str, Any]) -> None:
        thread = thread_id()
        if (place := places.get(thread)) is None:
            if len(places) >= threads:
                return  # not a thread of uWSGI's
            place = places[thread] = next(free)
            # uWSGI blocks all signals in its second thread and further: a crash there would leave no stack.
            signal.pthread_sigmask(signal.SIG_UNBLOCK, CRASHES)
        line = f"{environ['REQUEST_METHOD']} {environ.get('REQUEST_URI', '')}".encode("latin-1", "replace")
        pack(slots, place, now(), 0.0, thread, environ.get("HTTP_X_REQUEST_ID", "").encode("latin-1", "replace"), line)

    def end() -> None:
        if (place := places.get(thread_id())) is not None:
            pack_end(slots, place + END.size, now())

    return begin, end


def _call_after_each_request(uwsgi: Any, function: Callable[[], None]) -> None:
    """Have uWSGI call it, and what the project has there."""
    theirs = getattr(uwsgi, "after_req_hook", None)

    def both() -> None:
        function()
        if theirs:
            theirs()

    uwsgi.after_req_hook = both if theirs else function


def read(content: bytes) -> tuple[int, int, list[Request]]:
    """A worker's file: its pid, OOM kills before it, its requests."""
    if len(content) < HEAD.size:
        return 0, 0, []
    used = HEAD.size + (len(content) - HEAD.size) // SLOT.size * SLOT.size
    slots = SLOT.iter_unpack(content[HEAD.size : used])
    requests = [Request(begin, end, thread, _text(name), _text(line)) for begin, end, thread, name, line in slots]
    return *HEAD.unpack_from(content), requests


def _text(field: bytes) -> str:
    return field.rstrip(b"\0").decode("latin-1")


def report(requests: Path, stacks: Path, worker: int, deadline: float) -> Iterator[bytes]:
    """The lines about a worker that was killed, from the files that it left; none where it ended well."""
    try:
        pid, kills, noted = read(requests.read_bytes())
        dump, written = stacks.read_text(errors="replace"), stacks.stat().st_mtime
    except FileNotFoundError:
        return
    died = time.monotonic()
    if dump:
        died -= time.time() - written
    threads = split(dump)
    how = "was replaced" if dump else "was killed"
    if dump.startswith("Fatal Python error"):
        how = f"crashed ({dump.partition(chr(10))[0]})"
    elif not dump and (limits.oom_kills() or 0) > kills:
        how = "was killed, most likely for want of memory,"
    for request in noted:
        if not request.ran_at(died):
            continue
        # A file's time is the kernel's last tick.
        took = max((request.end or died) - request.begin, 0.0)
        # uWSGI counts in whole seconds.
        slow = dump and took > deadline - 1
        because = f": slower than UWSGI_HARAKIRI={deadline:.0f} is" if slow else " during"
        what = f"{request.line} (request id {request.id or 'none'}, {took:.1f} s until then)"
        yield _line(f"error: worker {worker} (pid {pid}) {how}{because} {what}", threads.pop(request.thread, ""))
    for stack in threads.values():
        yield _line(f"error: worker {worker} (pid {pid}) {how}, and another of its threads was", stack)


def split(dump: str) -> dict[int, str]:
    """faulthandler's output: thread id to stack, without this module's own thread and those that do nothing."""
    parts = re.split(r"^(?:Current thread|Thread) 0x([0-9a-f]+)[^\n]*\n", dump, flags=re.MULTILINE)
    stacks = {int(thread, 16): stack.strip("\n") for thread, stack in zip(parts[1::2], parts[2::2], strict=True)}
    return {thread: stack for thread, stack in stacks.items() if "  File " in stack and not IDLE.search(stack)}


def _line(message: str, stack: str) -> bytes:
    """One line of printable characters, newlines as \\n, cut to what one write keeps together."""
    text = f"{message}; most recent call first:\n{stack}" if stack else message
    shown = "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)
    return shown.encode()[: LONGEST - 1].decode(errors="ignore").encode() + b"\n"


def watch(uwsgi: Any, slots: mmap.mmap, deadline: float, output: Any) -> None:
    """A worker's thread: has it replaced once the oldest of its requests is over the deadline."""
    # uWSGI's handlers belong on its own main thread.
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    while True:
        running = [one.begin for one in read(slots[:])[2] if one.begin and not one.end]
        left = min(running, default=time.monotonic()) + deadline - time.monotonic()
        if left <= 0:
            break
        # Ends the worker, stacks first, from a thread of C should this one get no turn in time.
        faulthandler.dump_traceback_later(left + LATE, exit=True, file=output)
        time.sleep(min(left, 1.0))
    # Takes no more requests; the others may finish until uWSGI's master kills, about a second after its signal.
    os.kill(os.getpid(), signal.SIGHUP)
    while True:
        # In the past; again and again, since the end of another request would revoke it.
        uwsgi.set_user_harakiri(-1)
        time.sleep(0.2)
