"""How a reload makes uWSGI replace its workers, with simulated statistics and a simulated clock."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from dockerable.container import reload, uwsgi_statistics
from dockerable.container.reload import Refused
from dockerable.container.uwsgi_statistics import Worker

Snapshot = tuple[float, list[Worker]]


def worker(number: int, pid: int, status: str = "idle", *, accepting: bool = True) -> Worker:
    return Worker(number=number, pid=pid, status=status, accepting=accepting)


# Two workers, as they are before.
OLD = [worker(1, 11), worker(2, 12)]
FIRST_NEW = [worker(1, 21), worker(2, 12)]
BOTH_NEW = [worker(1, 21), worker(2, 22)]


class Uwsgi:
    """A simulated uWSGI: its workers have the states of each snapshot for some seconds, then those of the last one."""

    def __init__(self, folder: Path) -> None:
        self.now = 0.0
        self.snapshots: list[Snapshot] = []
        self.fifo = folder / "fifo"
        os.mkfifo(self.fifo)
        self.reader = os.open(self.fifo, os.O_RDONLY | os.O_NONBLOCK)
        # When it was asked for a chain reload.
        self.asked: list[float] = []

    def workers(self, *, patience: float) -> list[Worker]:
        until = 0.0
        for seconds, workers in self.snapshots:
            until += seconds
            if self.now < until:
                return workers
        return self.snapshots[-1][1]

    def sleep(self, seconds: float) -> None:
        if os.read(self.reader, 10) == b"c":
            self.asked.append(self.now)
        self.now += seconds

    def replace(self, *snapshots: Snapshot) -> int:
        self.snapshots = list(snapshots)
        return reload.replace_workers()


@pytest.fixture
def uwsgi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Uwsgi]:
    faked = Uwsgi(tmp_path)
    monkeypatch.setattr(reload, "UWSGI_FIFO", faked.fifo)
    monkeypatch.setattr(reload, "time", SimpleNamespace(monotonic=lambda: faked.now, sleep=faked.sleep))
    monkeypatch.setattr(uwsgi_statistics, "workers", faked.workers)
    monkeypatch.setenv("UWSGI_HARAKIRI", "20")
    yield faked
    os.close(faked.reader)


def refused(replace: Callable[[], int]) -> tuple[int, str]:
    with pytest.raises(Refused) as raised:
        replace()
    return raised.value.status, str(raised.value)


def test_it_ends_when_every_worker_is_another_that_serves(uwsgi: Uwsgi) -> None:
    starting = [worker(1, 21, accepting=False), worker(2, 12)]
    second_starting = [worker(1, 21), worker(2, 22, accepting=False)]
    assert uwsgi.replace((1, OLD), (2, starting), (1, FIRST_NEW), (2, second_starting), (1, BOTH_NEW)) == 2
    assert 6 <= uwsgi.now < 6.2
    assert len(uwsgi.asked) == 1


def test_workers_that_uwsgi_does_without_are_not_waited_for(uwsgi: Uwsgi) -> None:
    cheap = worker(3, 0, "cheap", accepting=False)
    assert uwsgi.replace((1, [*OLD, cheap]), (1, [*BOTH_NEW, cheap])) == 2


def test_a_worker_that_was_passed_over_is_replaced_by_another_chain(uwsgi: Uwsgi) -> None:
    assert uwsgi.replace((1, OLD), (5, FIRST_NEW), (1, BOTH_NEW)) == 2
    first, second = uwsgi.asked
    assert first == 0
    # Once the site is quiet: an old worker is idle, and all serve, from the beginning on.
    assert 3 < second < 3.2


def test_a_chain_is_not_begun_again_while_an_old_worker_is_busy_or_a_new_one_starts(uwsgi: Uwsgi) -> None:
    busy = [worker(1, 21), worker(2, 12, "busy")]
    starting = [worker(1, 21, accepting=False), worker(2, 12)]
    assert uwsgi.replace((1, OLD), (12, starting), (2, FIRST_NEW), (12, busy), (2, FIRST_NEW), (1, BOTH_NEW)) == 2
    assert len(uwsgi.asked) == 1


def test_a_worker_that_never_ends_is_told_of_after_the_time_for_its_request_and_its_successor(uwsgi: Uwsgi) -> None:
    busy = [worker(1, 21), worker(2, 12, "busy")]
    status, message = refused(lambda: uwsgi.replace((10, OLD), (1, busy)))
    assert (status, message) == (70, "1 of 2 workers were not replaced within 80 s")
    # From the moment on when the other one was replaced.
    assert 90 < uwsgi.now < 90.3


def test_a_uwsgi_that_is_gone_is_not_waited_for(uwsgi: Uwsgi) -> None:
    assert refused(lambda: uwsgi.replace((1, []))) == (75, reload.GONE)
    # It has ended after it gave its statistics: nobody reads the FIFO.
    os.close(uwsgi.reader)
    assert refused(lambda: uwsgi.replace((1, OLD))) == (75, reload.GONE)
    uwsgi.fifo.unlink()
    assert refused(lambda: uwsgi.replace((1, OLD))) == (75, reload.GONE)
    uwsgi.reader = os.open("/dev/null", os.O_RDONLY)


def test_before_that_workers_that_start_are_waited_for_but_not_for_ever(uwsgi: Uwsgi) -> None:
    starting = [worker(1, 11), worker(2, 12, accepting=False)]
    uwsgi.snapshots = [(2, starting), (1, OLD)]
    reload.wait_for_starts()
    assert 2 <= uwsgi.now < 2.2
    uwsgi.snapshots = [(1, starting)]
    reload.wait_for_starts()
    assert 62 <= uwsgi.now < 62.3


@pytest.mark.parametrize("reason", [ConnectionRefusedError(), ValueError("half a JSON")], ids=repr)
def test_a_uwsgi_that_does_not_answer_has_no_workers(reason: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def workers(*, patience: float) -> list[Worker]:
        raise reason

    monkeypatch.setattr(uwsgi_statistics, "workers", workers)
    assert reload.workers() == []
