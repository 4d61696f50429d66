"""The relay with real FIFOs and a real pipe for stdout: no line lost or mixed, and a slow or absent reader."""

import contextlib
import fcntl
import json
import os
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dockerable.container import relay
from dockerable.container.relay import BUSY, QUEUE, TAGS, Relay


class Site:
    """A relay in its own folder, with a pipe for stdout; `turn` is one turn of PID 1's main loop."""

    def __init__(self, folder: Path, *, json: bool) -> None:
        self.folder = folder
        self.out, self.written = os.pipe()
        relay.grow(self.written)
        with contextlib.ExitStack() as stack:
            monkeypatch = stack.enter_context(pytest.MonkeyPatch.context())
            monkeypatch.setattr(relay, "open_stdout", self.stdout)
            self.relay = Relay(json=json, folder=folder)

    def stdout(self) -> int:
        os.set_blocking(self.written, False)
        return self.written

    def write(self, tag: str, data: bytes) -> None:
        descriptor = os.open(self.folder / tag, os.O_WRONLY | os.O_NONBLOCK)
        assert os.write(descriptor, data) == len(data)
        os.close(descriptor)

    def turn(self) -> None:
        timeout = self.relay.timeout()
        ready = self.relay.poll.poll(50 if timeout is None else timeout * 1000)
        self.relay.work({descriptor for descriptor, _ in ready})

    def turns(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self.turn()

    def read(self) -> bytes:
        """What stdout holds now."""
        os.set_blocking(self.out, False)
        output = b""
        with contextlib.suppress(BlockingIOError):
            while block := os.read(self.out, 1 << 20):
                output += block
        return output


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Site]]:
    made: list[Site] = []

    def site(*, json: bool = False) -> Site:
        made.append(Site(tmp_path / "log", json=json))
        return made[-1]

    yield site
    for one in made:
        for descriptor in (*one.relay.sources, one.out, one.written):
            os.close(descriptor)


def test_there_is_a_fifo_for_each_source_and_its_name_is_the_tag(make: Callable[..., Site]) -> None:
    site = make()
    assert {path.name for path in site.folder.iterdir()} == set(TAGS)
    assert all(path.is_fifo() for path in site.folder.iterdir())
    for tag in reversed(TAGS):
        site.write(tag, b"warning: hello\n" if tag != "nginx.error" else b"nginx: [warn] hello\n")
    site.turn()
    assert site.read().decode().splitlines() == [f"{tag}: warning: hello" for tag in TAGS]


def test_a_second_start_takes_the_place_of_the_first(make: Callable[..., Site]) -> None:
    make().write("cmd", b"old\n")
    site = make()
    site.write("cmd", b"new\n")
    site.turn()
    assert site.read() == b"cmd: new\n"


def test_its_own_lines_are_never_part_of_others(make: Callable[..., Site]) -> None:
    site = make()
    site.write("cmd", b"Traceback (most recent call last):\n  x\nno end")
    site.turn()
    site.relay.say("stopping")
    site.relay.drain("stopped")
    assert site.read().decode().splitlines() == [
        "cmd: stopping",
        r"cmd: error: Traceback (most recent call last):\n  x\nno end",
        "cmd: stopped",
    ]


def test_a_line_that_comes_in_two_writes_is_one(make: Callable[..., Site]) -> None:
    site = make()
    site.write("cmd", b"one ")
    site.turns(0.3)
    assert site.read() == b""
    site.write("cmd", b"line\n")
    site.turn()
    assert site.read() == b"cmd: one line\n"


def numbers(output: bytes, tag: str) -> dict[str, list[int]]:
    """The numbers of a source's lines by writer, in their order; other lines fail."""
    found: dict[str, list[int]] = {}
    for line in output.decode().splitlines():
        if line.startswith(f"{tag}: "):
            writer, number, filling = line.removeprefix(f"{tag}: ").split(" ")
            assert filling == "." * 150
            found.setdefault(writer, []).append(int(number))
    return found


@pytest.mark.parametrize("pipe", [relay.PIPE, 4096])
def test_nothing_is_lost_or_mixed_and_each_writer_keeps_its_order(
    make: Callable[..., Site], monkeypatch: pytest.MonkeyPatch, pipe: int
) -> None:
    """Two writers a source and a reader that stops for 0.2 s again and again; also with pipes of one page."""
    monkeypatch.setattr(relay, "PIPE", pipe)
    site, most = make(), 10_000 if pipe > 4096 else 3000
    for descriptor in site.relay.sources:
        fcntl.fcntl(descriptor, fcntl.F_SETPIPE_SZ, pipe)
    writers = [(tag, name) for tag in BUSY for name in ("a", "b")]

    def write(tag: str, name: str) -> None:
        descriptor = os.open(site.folder / tag, os.O_WRONLY)
        for number in range(most):
            os.write(descriptor, f"{name} {number} {'.' * 150}\n".encode())
        os.close(descriptor)

    output: list[bytes] = []
    total = most * len(writers)

    def read() -> None:
        while sum(block.count(b"\n") for block in output) < total:
            output.append(os.read(site.out, 1 << 20))
            if len(output) % 50 == 0:
                time.sleep(0.2)

    threads = [threading.Thread(target=write, args=writer) for writer in writers]
    threads.append(threading.Thread(target=read))
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        site.turn()
    together = b"".join(output)
    for tag in BUSY:
        assert numbers(together, tag) == {"a": list(range(most)), "b": list(range(most))}


class Flood:
    """A writer that writes whenever the FIFO takes it."""

    def __init__(self, site: Site, tag: str) -> None:
        self.site, self.tag, self.count = site, tag, 0

    def until(self, predicate: Callable[[], bool], timeout: float = 20) -> None:
        descriptor = os.open(self.site.folder / self.tag, os.O_WRONLY | os.O_NONBLOCK)
        end = time.monotonic() + timeout
        while not predicate():
            assert time.monotonic() < end
            with contextlib.suppress(BlockingIOError):
                for _ in range(2000):
                    os.write(descriptor, f"a {self.count} {'.' * 150}\n".encode())
                    self.count += 1
            self.site.turn()
            assert self.site.relay.size < QUEUE + (1 << 18)
        os.close(descriptor)


def test_what_nobody_reads_is_bounded_then_dropped_counted_and_told(
    make: Callable[..., Site], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Longer than this machine needs to fill the queue.
    monkeypatch.setattr(relay, "PATIENCE", 60)
    site = make()
    flood = Flood(site, "nginx.access")
    flood.until(lambda: site.relay.size >= QUEUE)
    # The queue is full and the writers wait; nothing is lost yet.
    accepted, full = 0, time.monotonic()
    flood.until(lambda: time.monotonic() > full + 0.5)
    accepted = flood.count
    flood.until(lambda: time.monotonic() > full + 1)
    assert (flood.count, site.relay.lost) == (accepted, Counter())
    # After PATIENCE they write on.
    monkeypatch.setattr(relay, "PATIENCE", 0.5)
    flood.until(lambda: flood.count > accepted + 20_000)
    output = b""
    while site.relay.queue or site.relay.dropping:
        output += site.read()
        site.turn()
    site.write("nginx.access", f"a {flood.count} {'.' * 150}\n".encode())
    site.turns(0.2)
    output += site.read()
    (told,) = re.findall(rb"^cmd: warning: nobody read the log, lines were lost: nginx\.access (\d+)$", output, re.M)
    (kept,) = numbers(output, "nginx.access").values()
    assert int(told) + len(kept) == flood.count + 1
    assert kept == [*range(len(kept) - 1), flood.count]


def test_a_reader_who_takes_a_little_at_a_time_counts_as_nobody(
    make: Callable[..., Site], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay, "PATIENCE", 0.5)
    site = make()

    def dropping() -> bool:
        if site.relay.size >= QUEUE:
            os.read(site.out, 4096)
        return site.relay.dropping

    Flood(site, "uwsgi").until(dropping)


def test_a_line_is_not_cut_where_its_beginning_was_dropped_or_its_end_waits(
    make: Callable[..., Site], monkeypatch: pytest.MonkeyPatch
) -> None:
    site = make()
    site.write("uwsgi", b"first half, ")
    site.turn()
    site.relay.size += QUEUE
    site.write("uwsgi", b"second half\nthird ")
    time.sleep(1.1)
    site.turn()
    assert site.read() == b""
    site.relay.dropping = True
    site.turn()
    assert site.relay.lost == Counter(uwsgi=1)
    site.relay.size -= QUEUE
    site.turn()
    site.write("uwsgi", b"line\n")
    site.turns(0.2)
    assert site.read() == b"cmd: warning: nobody read the log, lines were lost: uwsgi 1\nuwsgi: third line\n"


@pytest.mark.parametrize("reads", [True, False])
def test_the_end_waits_for_a_reader_and_not_for_ever(
    make: Callable[..., Site], monkeypatch: pytest.MonkeyPatch, reads: bool
) -> None:
    monkeypatch.setattr(relay, "PATIENCE", 10.0 if reads else 1.0)
    site = make()
    read: list[bytes] = []
    fcntl.fcntl(site.written, fcntl.F_SETPIPE_SZ, 4096)
    for _ in range(3):
        site.write("uwsgi", b"x" * 4000 + b"\n")

    def late() -> None:
        time.sleep(0.5)
        while not b"".join(read).endswith(b"cmd: stopped\n"):
            read.append(os.read(site.out, 1 << 20))

    reader = threading.Thread(target=late)
    if reads:
        reader.start()
    began = time.monotonic()
    site.relay.drain("stopped")
    took = time.monotonic() - began
    if reads:
        reader.join()
        assert [len(line) for line in b"".join(read).splitlines()] == [4007, 4007, 4007, 12]
    else:
        assert 0.9 < took < 5


def test_the_end_waits_for_a_reader_who_is_slow(make: Callable[..., Site], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay, "PATIENCE", 1.5)
    site = make()
    fcntl.fcntl(site.written, fcntl.F_SETPIPE_SZ, 4096)
    for number in range(10, 30):
        site.write("uwsgi", f"{number}".encode() * 2000 + b"\n")
    read: list[bytes] = []

    def slow() -> None:
        while not b"".join(read).endswith(b"cmd: stopped\n"):
            time.sleep(0.1)
            read.append(os.read(site.out, 2000))

    reader = threading.Thread(target=slow)
    reader.start()
    began = time.monotonic()
    site.relay.drain("stopped")
    assert 2 < time.monotonic() - began < relay.AT_END
    reader.join()
    assert [len(line) for line in b"".join(read).splitlines()] == [4007] * 20 + [12]


def test_the_end_does_not_wait_for_ever_for_a_reader_who_is_slow(
    make: Callable[..., Site], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay, "AT_END", 1.0)
    site = make()
    fcntl.fcntl(site.written, fcntl.F_SETPIPE_SZ, 4096)
    for _ in range(10):
        site.write("uwsgi", b"x" * 4000 + b"\n")
    ended = threading.Event()

    def slow() -> None:
        while not ended.wait(0.1):
            os.read(site.out, 100)

    reader = threading.Thread(target=slow)
    reader.start()
    began = time.monotonic()
    site.relay.drain("stopped")
    assert 0.9 < time.monotonic() - began < 5
    ended.set()
    reader.join()


def test_what_cannot_be_written_is_kept(make: Callable[..., Site]) -> None:
    site = make()
    written, site.relay.out = site.relay.out, os.open("/dev/full", os.O_WRONLY)
    site.relay.reopen = lambda: None  # type: ignore[method-assign]
    site.write("cmd", b"one\n")
    site.turns(0.3)
    assert site.relay.size == len(b"cmd: one\n")
    os.close(site.relay.out)
    site.relay.out = written
    site.turns(0.3)
    assert site.read() == b"cmd: one\n"


def test_json_lines_of_all_sources_parse(make: Callable[..., Site]) -> None:
    site = make(json=True)
    for tag in TAGS:
        site.write(tag, b'{"a": 1}\n\xff "quoted" \\ \x1b[31m\nwarning: x\n')
    site.turn()
    lines = [json.loads(line) for line in site.read().decode().splitlines()]
    assert [line["event.dataset"] for line in lines] == [tag for tag in TAGS for _ in range(3)]
