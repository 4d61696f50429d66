"""The report about a worker that was killed: one line of the log for each request that it was answering.

uWSGI kills a worker whose request is slower than UWSGI_HARAKIRI, the kernel one that takes too much memory; neither
says what the application did. The worker that takes its place says it, from the files that the killed one has left:
its requests (request_notes.py) and, after harakiri or a crash, the stacks of its threads (harakiri.py).
"""

import re
import time
from collections.abc import Iterator
from pathlib import Path

from dockerable.application import request_notes
from dockerable.container import limits

# Stacks of threads that do nothing: harakiri.py's own thread, and a thread of uWSGI's that waits for a request, which
# has no frame but those of the start.
IDLE = re.compile(
    r"/harakiri\.py\", line \d+ in watch$|\A(?:  File \"\S*/(?:application/start\.py|bin/application)\", .*\n?)+\Z",
    re.MULTILINE,
)
# A FIFO keeps at most so many bytes of one write together.
LONGEST = 4096


def report(requests: Path, stacks: Path, worker: int, deadline: float) -> Iterator[bytes]:
    """The lines about a worker that was killed, from the two files that it left; none where it ended well.

    `worker` is uWSGI's number, `deadline` its harakiri in seconds.
    """
    try:
        notes = request_notes.read(requests.read_bytes())
        dump, written = stacks.read_text(errors="replace"), stacks.stat().st_mtime
    except FileNotFoundError:
        return
    died = time.monotonic()
    if dump:
        # When the stacks were written: a second before the kill.
        died -= time.time() - written
    threads = split(dump)
    how = _how(dump, notes.oom_kills)
    for request in notes.requests:
        if not request.ran_at(died):
            continue
        # Never negative: the file's time is that of the kernel's last tick, which may be before the request's begin.
        took = max((request.end or died) - request.begin, 0.0)
        # uWSGI counts in whole seconds.
        slow = dump and took > deadline - 1
        because = f": slower than UWSGI_HARAKIRI={deadline:.0f} is" if slow else " during"
        what = f"{request.line} (request id {request.id or 'none'}, {took:.1f} s until then)"
        yield _line(f"error: worker {worker} (pid {notes.pid}) {how}{because} {what}", threads.pop(request.thread, ""))
    for stack in threads.values():
        yield _line(f"error: worker {worker} (pid {notes.pid}) {how}, and another of its threads was", stack)


def _how(dump: str, oom_kills_before: int) -> str:
    """What ended the worker."""
    if dump.startswith("Fatal Python error"):
        return f"crashed ({dump.partition(chr(10))[0]})"
    if dump:
        return "was replaced"
    if (limits.oom_kills() or 0) > oom_kills_before:
        return "was killed, most likely for want of memory,"
    return "was killed"


def split(dump: str) -> dict[int, str]:
    """faulthandler's output as thread id to stack, without the threads that do nothing."""
    parts = re.split(r"^(?:Current thread|Thread) 0x([0-9a-f]+)[^\n]*\n", dump, flags=re.MULTILINE)
    stacks = {int(thread, 16): stack.strip("\n") for thread, stack in zip(parts[1::2], parts[2::2], strict=True)}
    return {thread: stack for thread, stack in stacks.items() if "  File " in stack and not IDLE.search(stack)}


def _line(message: str, stack: str) -> bytes:
    """One line of printable characters, newlines as \\n, cut to LONGEST bytes."""
    text = f"{message}; most recent call first:\n{stack}" if stack else message
    shown = "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)
    return shown.encode()[: LONGEST - 1].decode(errors="ignore").encode() + b"\n"
