"""When a site counts as stuck and when as broken: the watchdog with a simulated clock and site."""

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import pytest

from dockerable.container import environment, health, variables, watchdog
from dockerable.container.report import Report
from dockerable.container.uwsgi_statistics import Worker

HARAKIRI, TIMEOUT = 60, 90


@pytest.mark.parametrize("harakiri", ["", "1", "3600"])
def test_unset_it_waits_longer_than_harakiri_by_more_than_the_least_that_is_accepted(
    harakiri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = Report()
    variables.check({"UWSGI_HARAKIRI": harakiri, "WATCHDOG_TIMEOUT": "", "NGINX_SERVER_NAME": "a.test"}, report)
    monkeypatch.setattr(environment, "stored", lambda: report.values)
    checked = int(report.values["UWSGI_HARAKIRI"])
    assert watchdog.timeout() == checked + 30 > checked + variables.LEAST_WATCHDOG_MARGIN


class Ended(Exception):
    """The clock's end."""


class Site:
    """A simulated site with two workers. Each test sets what it does; all times are seconds since its start."""

    def __init__(self, folder: Path) -> None:
        self.now, self.end = 0.0, 1000.0
        self.folder = folder
        self.values = {"UWSGI_HARAKIRI": str(HARAKIRI), "WATCHDOG_TIMEOUT": str(TIMEOUT)}
        self.ready: Callable[[float], bool] = lambda _: True
        # How many requests of visitors are finished, how many workers harakiri killed, and their state.
        self.finished: Callable[[float], int] = lambda _: 0
        self.killed: Callable[[float], int] = lambda _: 0
        self.status: Callable[[float], str] = lambda _: "idle"
        # Whether uWSGI's statistics and a worker answer at once; if not, the watchdog's whole patience passes.
        self.tells: Callable[[float], bool] = lambda _: True
        self.answers: Callable[[float], bool] = lambda _: True
        # The whole container, as by docker pause.
        self.paused_at = self.paused_for = 0.0
        self.own = 0
        self.broken: tuple[float, str] | None = None
        self.written: list[tuple[float, str]] = []

    def sleep(self, seconds: float) -> None:
        if self.now <= self.paused_at < self.now + seconds:
            self.now += self.paused_for
        self.now += seconds
        if self.now > self.end:
            raise Ended

    def workers(self, patience: float) -> list[Worker] | None:
        if not self.tells(self.now):
            self.sleep(patience)
            return None
        requests, kills = self.finished(self.now) + self.own, self.killed(self.now)
        status = self.status(self.now)
        first = Worker(number=1, pid=2, status=status, accepting=True, requests=requests, harakiri_count=kills)
        return [first, Worker(number=2, pid=3, status=status, accepting=True)]

    def answer(self, patience: float) -> bool:
        if self.answers(self.now):
            self.own += 1
            return True
        self.sleep(patience)
        return False

    def write(self, verdict: str, *_: str, **__: float | None) -> None:
        self.written.append((self.now, verdict))

    def run(self, seconds: float = 1000.0) -> str:
        """Why the watchdog ends the container within so many seconds; empty if it does not."""
        self.end = seconds
        with suppress(Ended):
            watchdog.Watchdog(lambda reason: setattr(self, "broken", (self.now, reason))).run()
        return self.broken[1] if self.broken else ""

    def first(self, verdict: str) -> float:
        """When that verdict was first written."""
        return next(when for when, written in self.written if written == verdict)

    def verdicts(self) -> set[str]:
        return {verdict for _, verdict in self.written}


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    found = Site(tmp_path)
    monkeypatch.setattr(watchdog, "time", SimpleNamespace(sleep=found.sleep, monotonic=lambda: found.now))
    monkeypatch.setattr(environment, "stored", lambda: found.values)
    monkeypatch.setattr(watchdog, "READY", SimpleNamespace(exists=lambda: found.ready(found.now)))
    monkeypatch.setattr(watchdog, "workers", found.workers)
    monkeypatch.setattr(watchdog, "answers", found.answer)
    monkeypatch.setattr(watchdog, "is_stopped", lambda _: False)
    monkeypatch.setattr(health, "write", found.write)
    return found


def test_a_site_that_is_idle_or_answers_works(site: Site) -> None:
    assert site.run() == ""
    assert site.verdicts() == {health.WORKING}


def test_an_overloaded_site_works_as_long_as_it_finishes_requests(site: Site) -> None:
    """The watchdog's own request never gets its turn."""
    site.status, site.answers = lambda _: "busy", lambda now: now < 5
    site.finished = lambda now: int(now / 4)
    assert site.run() == ""
    assert site.verdicts() == {health.WORKING}


@pytest.mark.parametrize("harakiri_takes", [0, 3])
def test_requests_that_harakiri_ends_one_after_the_other_are_work(site: Site, harakiri_takes: int) -> None:
    site.status, site.answers = lambda _: "busy", lambda now: now < 5
    site.killed = lambda now: int(now / (HARAKIRI + harakiri_takes))
    assert site.run() == ""
    assert site.verdicts() == {health.WORKING}


def test_with_the_least_watchdog_too(site: Site) -> None:
    site.values["WATCHDOG_TIMEOUT"] = str(HARAKIRI + variables.LEAST_WATCHDOG_MARGIN)
    site.status, site.answers = lambda _: "busy", lambda now: now < 5
    site.killed = lambda now: int(now / (HARAKIRI + 3))
    assert site.run() == ""


def test_workers_that_are_busy_for_longer_than_harakiri_hang(site: Site) -> None:
    site.status = lambda _: "busy"
    site.answers = lambda now: now < 100
    assert "uWSGI's workers finish nothing" in site.run()
    assert 100 + HARAKIRI < site.first(health.STUCK) < 100 + HARAKIRI + 20
    assert site.broken is not None
    assert site.first(health.STUCK) < site.broken[0]


def test_workers_that_are_free_and_do_not_answer_hang_at_once(site: Site) -> None:
    site.answers = lambda now: now < 100
    assert "uWSGI's workers finish nothing" in site.run()
    assert 100 + watchdog.FREE_AND_SILENT < site.first(health.STUCK) < 100 + 20


def test_one_question_without_an_answer_is_no_hang(site: Site) -> None:
    site.answers = lambda now: not 100 <= now < 104
    assert site.run() == ""
    assert site.verdicts() == {health.WORKING}


@pytest.mark.parametrize("timeout", [12, 15, 90])
@pytest.mark.parametrize("since", [100.1, 102.5, 104.9])
@pytest.mark.parametrize("all_hangs", [True, False])
def test_the_container_ends_within_eight_seconds_of_its_time(
    site: Site, timeout: int, since: float, all_hangs: bool
) -> None:
    site.values.update(UWSGI_HARAKIRI="2", WATCHDOG_TIMEOUT=str(timeout))
    site.answers = lambda now: now < since
    site.tells = lambda now: now < since or not all_hangs
    what = "uWSGI does not answer either" if all_hangs else "uWSGI's workers finish nothing"
    assert what in site.run()
    assert site.broken is not None
    assert since + timeout <= site.broken[0] <= since + timeout + 8
    assert site.first(health.STUCK) < site.broken[0]


def test_uwsgi_without_its_master_ends_though_it_serves(site: Site) -> None:
    site.values.update(UWSGI_HARAKIRI="2", WATCHDOG_TIMEOUT="15")
    site.tells = lambda now: now < 100
    assert "uWSGI's master has not answered" in site.run()
    assert site.broken is not None
    assert 115 <= site.broken[0] <= 123
    assert site.first(health.STUCK) < site.broken[0]


@pytest.mark.parametrize("silent_from", [100.1, 94.0])
def test_of_two_faults_the_silence_of_the_site_is_named(site: Site, silent_from: float) -> None:
    """Where all of it hangs, the master may have been silent for one look longer."""
    site.tells, site.answers = lambda now: now < 94, lambda now: now < silent_from
    assert "the site has not answered" in site.run()


def test_a_master_that_is_stopped_ends_the_container_though_it_serves(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watchdog, "is_stopped", lambda file: file.name == "nginx.pid" and site.now > 100)
    assert "nginx's master has been stopped" in site.run()
    assert site.broken is not None
    assert 190 <= site.broken[0] <= 200


def test_a_pause_of_the_whole_container_counts_as_one_turn(site: Site) -> None:
    site.answers = lambda now: now < 100
    site.paused_at, site.paused_for = 110, 3600
    assert site.run(3600 + 110 + TIMEOUT - 30) == ""


def test_a_watchdog_that_is_off_judges_and_ends_nothing(site: Site) -> None:
    site.values["WATCHDOG_TIMEOUT"] = "0"
    site.status = lambda _: "busy"
    site.answers = lambda now: now < 100
    assert site.run() == ""
    assert 100 + HARAKIRI < site.first(health.STUCK) < 100 + HARAKIRI + 20
    assert site.written[-1][1] == health.STUCK


def test_a_start_is_no_hang_and_its_end_is_noticed_at_once(site: Site) -> None:
    site.ready = lambda now: now >= 502.7
    assert site.run() == ""
    assert site.first(health.STARTING) == 0
    assert 502.7 <= site.first(health.WORKING) < 503.2


def test_a_site_that_has_never_answered_is_starting_and_then_stuck(site: Site) -> None:
    """So `ctl up` does not take it for a site that works."""
    site.answers = lambda _: False
    assert site.run()
    assert site.verdicts() == {health.STARTING, health.STUCK}


def test_uwsgi_that_is_started_anew_counts_from_there(site: Site) -> None:
    site.status = lambda _: "busy"
    site.answers = lambda _: False
    site.ready = lambda now: not 50 <= now % 100 < 60
    assert site.run() == ""


@pytest.mark.parametrize("site_does", ["works", "hangs", "starts"])
def test_the_verdict_never_gets_too_old(site: Site, site_does: str) -> None:
    site.values["WATCHDOG_TIMEOUT"] = "0"
    site.answers = site.tells = lambda _: site_does != "hangs"
    site.ready = lambda _: site_does != "starts"
    site.run()
    times = [when for when, _ in site.written]
    assert max(after - before for before, after in pairwise(times)) < health.FRESH / 2


def state_of(pid_file: Path, pid: int) -> bool:
    pid_file.write_text(f"{pid}\n")
    return watchdog.is_stopped(pid_file)


@pytest.fixture
def child() -> Iterator[int]:
    pid = os.spawnvp(os.P_NOWAIT, "sleep", ["sleep", "60"])
    yield pid
    os.kill(pid, 9)
    os.waitpid(pid, 0)


def test_a_process_that_is_stopped_is_told_from_one_that_waits(tmp_path: Path, child: int) -> None:
    file = tmp_path / "pid"
    assert not watchdog.is_stopped(file)
    assert not state_of(file, child)
    os.kill(child, 19)
    os.waitpid(child, os.WUNTRACED)
    assert state_of(file, child)
    assert not state_of(file, 2**22 + 1)
    file.write_text("")
    assert not watchdog.is_stopped(file)


def test_the_reason_of_the_end_names_kills_for_want_of_memory() -> None:
    assert watchdog.silence(40, [], 3).endswith("finish nothing, and 3 processes were killed for want of memory")
    assert "killed" not in watchdog.silence(40, None, 0)
