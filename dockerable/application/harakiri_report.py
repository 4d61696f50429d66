"""The report about a killed worker: one log line for each request that it was serving.

uWSGI kills a worker if a request is slower than UWSGI_HARAKIRI, the kernel if memory runs out; neither logs what the
worker was doing. So the worker that replaces it does, from two files that the killed one left: its requests
(request_notes.py) and, after harakiri or a crash, the stacks of its threads (harakiri.py).
"""

import re
import time
from collections.abc import Iterator
from pathlib import Path

from dockerable.application import request_notes
from dockerable.container import limits

# Stacks of idle threads: harakiri.py's watching thread, and a uWSGI thread that waits for a request, which has only the
# frames of the start.
IDLE = re.compile(
    r"/harakiri\.py\", line \d+ in watch$|\A(?:  File \"\S*/(?:application/start\.py|bin/application)\", .*\n?)+\Z",
    re.MULTILINE,
)
# The most bytes of a line: larger writes to a FIFO are not atomic.
LONGEST = 4096


def report(requests: Path, stacks: Path, worker: int, deadline: float) -> Iterator[bytes]:
    """The lines about a killed worker, from the two files that it left; none if it ended normally.

    `worker` is the worker's number, `deadline` its harakiri in seconds.
    """
    try:
        notes = request_notes.read(requests.read_bytes())
        dump, written = stacks.read_text(errors="replace"), stacks.stat().st_mtime
    except FileNotFoundError:
        return
    died = time.monotonic()
    if dump:
        # The stacks were written one second before the kill, so their time counts.
        died -= time.time() - written
    threads = split(dump)
    how = _how(dump, notes.oom_kills)
    for request in notes.requests:
        if not request.ran_at(died):
            continue
        # Not negative: the file's time is the kernel's last tick, which may be before the request began.
        took = max((request.end or died) - request.begin, 0.0)
        # uWSGI counts in whole seconds.
        slow = dump and took > deadline - 1
        because = f": slower than UWSGI_HARAKIRI={deadline:.0f} is" if slow else " during"
        what = f"{request.line} (request id {request.id or 'none'}, {took:.1f} s until then)"
        yield _line(f"error: worker {worker} (pid {notes.pid}) {how}{because} {what}", threads.pop(request.thread, ""))
    for stack in threads.values():
        yield _line(f"error: worker {worker} (pid {notes.pid}) {how}, and another of its threads was", stack)


def _how(dump: str, oom_kills_before: int) -> str:
    """Words for how the worker ended."""
    if dump.startswith("Fatal Python error"):
        return f"crashed ({dump.partition(chr(10))[0]})"
    if dump:
        return "was replaced"
    if (limits.oom_kills() or 0) > oom_kills_before:
        return "was killed, most likely for want of memory,"
    return "was killed"


def split(dump: str) -> dict[int, str]:
    """faulthandler's output as thread id to stack, without idle threads."""
    parts = re.split(r"^(?:Current thread|Thread) 0x([0-9a-f]+)[^\n]*\n", dump, flags=re.MULTILINE)
    stacks = {int(thread, 16): stack.strip("\n") for thread, stack in zip(parts[1::2], parts[2::2], strict=True)}
    return {thread: stack for thread, stack in stacks.items() if "  File " in stack and not IDLE.search(stack)}


def _line(message: str, stack: str) -> bytes:
    """One line of printable characters, newlines as \\n, cut to LONGEST bytes."""
    text = f"{message}; most recent call first:\n{stack}" if stack else message
    shown = "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)
    return shown.encode()[: LONGEST - 1].decode(errors="ignore").encode() + b"\n"
