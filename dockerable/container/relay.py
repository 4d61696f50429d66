"""The log's way out of the container: one FIFO a source in /run/log, every line tagged with its source's name.

PID 1 holds the FIFOs open, gathers, tags (log_lines.py), and writes to a stdout that never blocks it.
While nobody reads stdout, QUEUE bytes are kept and then the writers wait; after PATIENCE what comes is dropped,
counted and told of.
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

# In the order in which one gathering writes them: the causes before the effects.
TAGS = ("cmd", "supervisor", "certbot", "nginx.error", "django", "uwsgi", "nginx.access")
# These may come by the thousand a second. A user's pipes may take 64 MiB together, those of all containers.
BUSY = ("django", "uwsgi", "nginx.access")
QUEUE = 8 << 20
PIPE = 1 << 20
BLOCK = 1 << 16
# seconds to wait for more before a reading. Reading at each wake-up costs a third of the throughput.
GATHER = 0.05
LEAST = 0.002
# Somebody who reads less than PIPE bytes in so many seconds counts as nobody.
PATIENCE = 5.0
# seconds at the end of the container that somebody who does read may take.
AT_END = 12.0


class Relay:
    """All sources, and the queue in front of stdout. Raises OSError where /run/log cannot be made."""

    def __init__(self, *, json: bool, folder: Path = LOG) -> None:
        self.sources: dict[int, Source] = {}
        self.room: dict[int, int] = {}
        folder.mkdir(mode=0o770, exist_ok=True)
        for tag in TAGS:
            path = folder / tag
            path.unlink(missing_ok=True)
            os.mkfifo(path, 0o660)
            # For writing too: then no writer ever waits for a reader, and none ends it.
            descriptor = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
            if tag in BUSY:
                grow(descriptor)
            self.sources[descriptor] = Source(tag, json=json)
            self.room[descriptor] = fcntl.fcntl(descriptor, fcntl.F_GETPIPE_SZ)
        # PID 1's own lines, never part of what another is in the middle of.
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
        """Poll the sources while there is room for what they hold."""
        wanted = self.size < QUEUE or self.dropping
        if wanted != self.reading:
            for descriptor in self.sources:
                self.poll.register(descriptor, select.POLLIN if wanted else 0)
            self.reading = wanted

    def poll_stdout(self, *, wanted: bool) -> None:
        """Poll stdout while something waits for it to take more."""
        if wanted and not self.waiting:
            self.poll.register(self.out, select.POLLOUT)
        elif self.waiting and not wanted:
            self.poll.unregister(self.out)
        self.waiting = wanted

    def timeout(self) -> float | None:
        """Seconds until something must be done although no source has anything."""
        if self.queue:
            return GATHER
        return 0.1 if any(source.unfinished() for source in self.sources.values()) else None

    def last_error(self, tag: str) -> str:
        """What this source said last as an error."""
        return next(source.last_error for source in self.sources.values() if source.tag == tag)

    def say(self, message: str) -> None:
        """A line of PID 1's own."""
        self.put(self.own.line(message))

    def put(self, data: bytes) -> None:
        """Queue what stdout will take."""
        if data:
            if not self.queue:
                self.taken, self.progress = 0, time.monotonic()
            self.queue.append(data)
            self.size += len(data)

    def work(self, ready: set[int]) -> None:
        """One turn: wait a moment for more where a source has something, read all, write what stdout takes."""
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
            # Who reads a little at a time is not asked each time.
            time.sleep(max(0, min(until - time.monotonic(), 0.005 if self.queue else seconds)))

    def gather(self, *, now: bool = False) -> bool:
        """Read what the sources hold; with `now` also what is not finished. Returns whether there was anything."""
        found = full = False
        for descriptor, source in self.sources.items():
            read = 0
            while read < PIPE and (self.size < QUEUE or self.dropping):
                try:
                    data = os.read(descriptor, BLOCK)
                except BlockingIOError:
                    # Only what nothing follows is unfinished.
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
        # The writers to a full pipe wait, and it may be smaller than it was asked to be.
        self.wait = max(self.wait / 2, LEAST) if full else min(self.wait * 2, GATHER)
        return found

    def drop(self) -> None:
        """Begin to drop what nobody reads, or tell of it when somebody reads again."""
        if self.size >= QUEUE and time.monotonic() - self.progress > PATIENCE:
            self.dropping = True
        elif self.dropping and self.size < QUEUE // 2:
            self.dropping = False
            self.tell_lost()

    def tell_lost(self) -> None:
        """One line on what was dropped, by source."""
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
                # Nobody holds its other end: who comes back finds what fits into the queue.
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
        """Write all that there is and then the last line, unless nobody reads for PATIENCE or it takes AT_END."""
        self.taken, self.progress = 0, time.monotonic()
        until = self.progress + AT_END
        self.write_all(until)
        self.tell_lost()
        if last_line:
            self.say(last_line)
        self.write_all(until)

    def write_all(self, until: float) -> None:
        """Until all is written, the time has come or nobody has read for PATIENCE."""
        while (self.gather(now=True) or self.queue) and time.monotonic() < min(until, self.progress + PATIENCE):
            before = self.size
            self.flush()
            if self.size < before:
                self.progress = time.monotonic()
            self.drop()
            if self.queue:
                time.sleep(0.005)


def grow(descriptor: int) -> None:
    """Give a pipe more room than 64 KiB, where the user's share of the kernel's memory allows it."""
    with contextlib.suppress(OSError):
        fcntl.fcntl(descriptor, fcntl.F_SETPIPE_SZ, PIPE)


def open_stdout() -> int:
    """A descriptor for stdout of our own that never blocks; stdout itself where it cannot be opened again."""
    try:
        descriptor = os.open("/proc/self/fd/1", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    except OSError:
        os.set_blocking(1, False)
        descriptor = os.dup(1)
    grow(descriptor)
    return descriptor
