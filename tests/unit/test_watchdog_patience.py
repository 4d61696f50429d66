"""When a silent site counts as broken: the watchdog with a simulated clock and site."""

from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import pytest

from dockerable.container import environment, variables, watchdog
from dockerable.container.report import Report


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


def silence(monkeypatch: pytest.MonkeyPatch, *turns: tuple[float, tuple[int, int] | None]) -> str:
    """The watchdog's reason for ending a silent site; each turn takes these seconds and sees these figures."""
    left, reasons, clock = list(turns), [""], [0.0]

    def sleep(_: float) -> None:
        if not left:
            raise Ended
        clock[0] += left[0][0]

    monkeypatch.setattr(watchdog, "timeout", lambda: 40.0)
    monkeypatch.setattr(watchdog, "time", SimpleNamespace(sleep=sleep, monotonic=lambda: clock[0]))
    monkeypatch.setattr(watchdog, "READY", Path("/"))
    monkeypatch.setattr(watchdog, "alive", lambda: False)
    monkeypatch.setattr(watchdog, "progress", lambda: left.pop(0)[1])
    with suppress(Ended):
        watchdog.Watchdog(reasons.append).run()
    return reasons[-1]


def test_silence_counts_from_the_last_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "for 40 s" in silence(monkeypatch, *[(10, (7, 0))] * 5)
    assert silence(monkeypatch, *[(10, (7, 0))] * 4, *[(10, (8, 0))] * 4, *[(10, (8, 1))] * 4) == ""
    assert "does not answer either" in silence(monkeypatch, *[(10, None)] * 5)


def test_a_pause_of_the_whole_container_counts_as_one_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    assert silence(monkeypatch, (10, (7, 0)), (3600, (7, 0)), (10, (7, 0))) == ""
