"""The log relay: each program writes to its FIFO in /run/log, PID 1 tags the lines and writes them to stdout.

PID 1 holds the FIFOs open, and log_lines.py turns bytes into tagged lines. Writing to stdout never blocks PID 1.
While stdout's reader is slow or absent, QUEUE bytes are kept; then the programs' writes block, and after PATIENCE
seconds new lines are dropped. One line says how many once the reader is back.
"""

import contextlib
import fcntl
import os
import select
import time
from collections import Counter, deque
from pathlib import Path

from dockerable.container.log_lines import Source
from dockerable.container.places import LOG

# Each turn reads the sources in this order: causes before effects.
TAGS = ("cmd", "supervisor", "certbot", "nginx.error", "django", "uwsgi", "nginx.access")
# Sources that may write thousands of lines a second; only they get large pipes. The kernel allows 64 MiB for all pipes
# of one user, in all containers together.
BUSY = ("django", "uwsgi", "nginx.access")
# Bytes: kept in front of stdout, the size of a large pipe, and read at once.
QUEUE = 8 << 20
PIPE = 1 << 20
BLOCK = 1 << 16
# Seconds to wait for more before sources are read, at most and at least. Reading at each wake-up would cost a third of
# the throughput.
GATHER = 0.05
LEAST = 0.002
# A reader slower than PIPE bytes per this many seconds is treated as absent.
PATIENCE = 5.0
# Seconds at the end of the container to write what is left to a reader that is not absent.
AT_END = 12.0


class Relay:
    """All sources, and the queue in front of stdout. Raises OSError if /run/log cannot be made."""

    def __init__(self, *, json: bool, folder: Path = LOG) -> None:
        self.sources: dict[int, Source] = {}
        self.room: dict[int, int] = {}
        folder.mkdir(mode=0o770, exist_ok=True)
        for tag in TAGS:
            path = folder / tag
            path.unlink(missing_ok=True)
            os.mkfifo(path, 0o660)
            # Opened for writing too: so a program that opens the FIFO never waits, and no end of file is read when the
            # last program closes it.
            descriptor = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
            if tag in BUSY:
                grow(descriptor)
            self.sources[descriptor] = Source(tag, json=json)
            self.room[descriptor] = fcntl.fcntl(descriptor, fcntl.F_GETPIPE_SZ)
        # For PID 1's own lines: a source of its own, so that they never land within a line of cmd.sh.
        self.own = Source("cmd", json=json)
        self.out = open_stdout()
        self.queue: deque[bytes | memoryview] = deque()
        self.size = 0
        self.taken = 0
        self.progress = time.monotonic()
        self.wait = GATHER
        self.dropping = False
        self.lost: Counter[str] = Counter()
        self.poll = select.poll()
        self.writable = select.poll()
        self.writable.register(self.out, select.POLLOUT)
        self.reading = self.waiting = False
        self.read_sources()

    def read_sources(self) -> None:
        """Poll the sources for input only while the queue has room for it."""
        wanted = self.size < QUEUE or self.dropping
        if wanted != self.reading:
            for descriptor in self.sources:
                self.poll.register(descriptor, select.POLLIN if wanted else 0)
            self.reading = wanted

    def poll_stdout(self, *, wanted: bool) -> None:
        """Poll stdout for room to write, or stop doing so."""
        if wanted and not self.waiting:
            self.poll.register(self.out, select.POLLOUT)
        elif self.waiting and not wanted:
            self.poll.unregister(self.out)
        self.waiting = wanted

    def timeout(self) -> float | None:
        """Seconds after which `work` must be called even without input; None: not at all."""
        if self.queue:
            return GATHER
        return 0.1 if any(source.unfinished() for source in self.sources.values()) else None

    def last_error(self, tag: str) -> str:
        """The last message that this source logged as an error; empty if there is none."""
        return next(source.last_error for source in self.sources.values() if source.tag == tag)

    def say(self, message: str) -> None:
        """Log one line from PID 1 itself."""
        self.put(self.own.line(message))

    def put(self, data: bytes) -> None:
        """Append to the queue in front of stdout."""
        if data:
            if not self.queue:
                self.taken, self.progress = 0, time.monotonic()
            self.queue.append(data)
            self.size += len(data)

    def work(self, ready: set[int]) -> None:
        """One turn of the main loop, `ready` being the descriptors that poll() returned.

        If a source has input, wait a moment for more; then read all sources and write what stdout takes.
        """
        if ready != {self.out}:
            if ready:
                self.write_for(self.wait)
            self.gather()
        self.flush()
        self.drop()
        self.read_sources()

    def write_for(self, seconds: float) -> None:
        """Let `seconds` pass, and write meanwhile."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            if self.queue and self.writable.poll(left * 1000):
                self.flush()
            # A reader that takes little at a time would otherwise wake this loop all the time.
            time.sleep(max(0, min(until - time.monotonic(), 0.005 if self.queue else seconds)))

    def gather(self, *, now: bool = False) -> bool:
        """Read all sources into the queue; with `now` also unfinished lines. Returns whether anything was read."""
        found = full = False
        for descriptor, source in self.sources.items():
            read = 0
            while read < PIPE and (self.size < QUEUE or self.dropping):
                try:
                    data = os.read(descriptor, BLOCK)
                except BlockingIOError:
                    # The FIFO is empty, so the rest of the line has not been written yet.
                    if source.unfinished() and not self.dropping:
                        self.put(source.settle(now=now))
                    break
                read += len(data)
                if self.dropping:
                    self.lost[source.tag] += source.skip(data)
                else:
                    self.put(source.take(data))
            found = found or read > 0
            full = full or read > self.room[descriptor] // 2
        # A program that writes to a full pipe blocks, so read sooner if a pipe was more than half full.
        self.wait = max(self.wait / 2, LEAST) if full else min(self.wait * 2, GATHER)
        return found

    def drop(self) -> None:
        """Start dropping new lines if stdout's reader is absent; stop, and log how many, once it reads again."""
        if self.size >= QUEUE and time.monotonic() - self.progress > PATIENCE:
            self.dropping = True
        elif self.dropping and self.size < QUEUE // 2:
            self.dropping = False
            self.tell_lost()

    def tell_lost(self) -> None:
        """Log how many lines of each source were dropped."""
        if self.lost:
            counted = ", ".join(f"{tag} {number}" for tag, number in self.lost.most_common())
            self.lost.clear()
            self.say(f"warning: nobody read the log, lines were lost: {counted}")

    def flush(self) -> None:
        """Write what stdout takes now."""
        while self.queue:
            data = self.queue[0]
            try:
                written = os.write(self.out, data)
            except BlockingIOError:
                self.poll_stdout(wanted=True)
                return
            except OSError:
                # The reader has closed stdout's other end. The queue is kept for the next reader.
                self.poll_stdout(wanted=False)
                self.reopen()
                return
            self.size -= written
            self.taken += written
            if self.taken >= PIPE:
                self.taken, self.progress = 0, time.monotonic()
            if written < len(data):
                self.queue[0] = memoryview(data)[written:]
            else:
                self.queue.popleft()
        self.poll_stdout(wanted=False)

    def reopen(self) -> None:
        """Open stdout again."""
        with contextlib.suppress(OSError):
            reopened = open_stdout()
            self.writable.unregister(self.out)
            os.close(self.out)
            self.out = reopened
            self.writable.register(self.out, select.POLLOUT)

    def drain(self, last_line: str) -> None:
        """At the end of the container: write the rest of the log and then `last_line`.

        Gives up after AT_END seconds, or if the reader takes nothing for PATIENCE seconds.
        """
        self.taken, self.progress = 0, time.monotonic()
        until = self.progress + AT_END
        self.write_all(until)
        self.tell_lost()
        if last_line:
            self.say(last_line)
        self.write_all(until)

    def write_all(self, until: float) -> None:
        """Write until all is written, `until` has come, or the reader has taken nothing for PATIENCE seconds."""
        while (self.gather(now=True) or self.queue) and time.monotonic() < min(until, self.progress + PATIENCE):
            before = self.size
            self.flush()
            if self.size < before:
                self.progress = time.monotonic()
            self.drop()
            if self.queue:
                time.sleep(0.005)


def grow(descriptor: int) -> None:
    """Enlarge a pipe from 64 KiB to PIPE bytes, if the kernel's limit on pipe memory of one user allows it."""
    with contextlib.suppress(OSError):
        fcntl.fcntl(descriptor, fcntl.F_SETPIPE_SZ, PIPE)


def open_stdout() -> int:
    """A second, non-blocking descriptor for stdout; a duplicate of stdout itself if it cannot be opened again."""
    try:
        descriptor = os.open("/proc/self/fd/1", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    except OSError:
        os.set_blocking(1, False)
        descriptor = os.dup(1)
    grow(descriptor)
    return descriptor
