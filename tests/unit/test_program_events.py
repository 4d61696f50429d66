"""What supervisor's events about programs lead to: lines of the log, the failure file, and a stop of everything."""

import signal
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from supervisor import events
from supervisor.states import ProcessStates, SupervisorStates

from dockerable.container import failure, limits
from dockerable.supervision import program_events
from dockerable.supervision.program_events import ProgramEvents
from dockerable.supervision.supervise import Options

STATUS_1, KILLED = 1 << 8, int(signal.SIGKILL)


class Supervised:
    """The handlers, and programs that supervisor reports on."""

    def __init__(self, folder: Path) -> None:
        self.failure, self.ready = folder / "failure", folder / "ready"
        self.stops = 0
        self.handlers = ProgramEvents({}, self.stop)

    def stop(self) -> None:
        self.stops += 1

    def report(self, event: type, program: str = "nginx", *, status: int | None = None, error: str = "") -> None:
        """Report a change of state; a process that ended has this wait status."""
        if status is not None:
            self.handlers.wait_statuses[42] = status
        process = SimpleNamespace(
            config=SimpleNamespace(name=program), pid=42, laststart=time.time() - 1, spawnerr=error, backoff=1
        )
        self.handlers.changed(event(process, ProcessStates.STARTING))


@pytest.fixture
def supervised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Supervised:
    monkeypatch.setattr(failure, "FAILURE", tmp_path / "failure")
    monkeypatch.setattr(program_events, "FAILURE", tmp_path / "failure")
    monkeypatch.setattr(program_events, "READY", tmp_path / "ready")
    monkeypatch.setattr(limits, "memory", lambda: 512 * limits.MIB)
    monkeypatch.setattr(limits, "oom_kills", lambda: 0)
    return Supervised(tmp_path)


@pytest.mark.parametrize(
    ("status", "line"),
    [
        (0, "nginx ended with status 0"),
        (STATUS_1, "warning: nginx ended with status 1"),
        (KILLED, "warning: nginx was killed by signal 9"),
        (None, "warning: nginx ended"),
    ],
)
def test_an_end_is_one_line_and_no_warning_where_all_went_well(
    status: int | None, line: str, supervised: Supervised, capsys: pytest.CaptureFixture[str]
) -> None:
    supervised.report(events.ProcessStateStartingEvent)
    supervised.report(events.ProcessStateExitedEvent, status=status)
    assert capsys.readouterr().err.splitlines() == ["starting nginx", line]
    assert supervised.handlers.wait_statuses == {}
    assert (supervised.stops, supervised.failure.exists()) == (0, False)


def test_five_failures_before_the_site_is_ready_stop_all_and_say_why(supervised: Supervised) -> None:
    for _ in range(4):
        supervised.report(events.ProcessStateBackoffEvent, status=STATUS_1)
    assert (supervised.stops, supervised.failure.exists()) == (0, False)
    supervised.report(events.ProcessStateExitedEvent, status=KILLED)
    assert supervised.stops == 1
    assert failure.read() == (70, "nginx failed 5 times in a row, the last time it was killed by signal 9")


def test_with_the_site_ready_five_are_not_too_many_and_ten_are(supervised: Supervised) -> None:
    supervised.ready.touch()
    for _ in range(9):
        supervised.report(events.ProcessStateExitedEvent, status=STATUS_1)
    assert (supervised.stops, supervised.failure.exists()) == (0, False)
    supervised.report(events.ProcessStateExitedEvent, status=STATUS_1)
    assert failure.read() == (70, "nginx ended 10 times within 120 s, the last time it ended with status 1")


def test_a_certificate_program_that_fails_stops_nothing(supervised: Supervised) -> None:
    for _ in range(30):
        supervised.report(events.ProcessStateBackoffEvent, "certificate", status=STATUS_1)
    assert (supervised.stops, supervised.failure.exists()) == (0, False)


@pytest.mark.parametrize(
    ("before", "error", "how"),
    [(STATUS_1, "Exited too quickly", "ended with status 1"), (None, "can't find command", "can't find command")],
)
def test_what_supervisor_gives_up_stops_all_with_how_it_ended(
    before: int | None, error: str, how: str, supervised: Supervised
) -> None:
    if before is not None:
        supervised.report(events.ProcessStateBackoffEvent, status=before)
    supervised.report(events.ProcessStateFatalEvent, error=error)
    assert supervised.stops == 1
    assert failure.read() == (70, f"nginx cannot be kept running, the last time it {how}")


def test_a_failure_that_the_application_wrote_stops_all_and_stays(supervised: Supervised) -> None:
    failure.write(78, "DEBUG is on")
    supervised.report(events.ProcessStateExitedEvent, "application", status=78 << 8)
    supervised.report(events.ProcessStateFatalEvent)
    assert supervised.stops == 2
    assert failure.read() == (78, "DEBUG is on")


def test_a_reason_that_cannot_be_written_is_logged(
    supervised: Supervised, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def no_room(status: int, reason: str) -> None:
        supervised.failure.touch()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(failure, "write", no_room)
    supervised.report(events.ProcessStateFatalEvent, error="can't find command")
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: nginx cannot be kept running, the last time it can't find command; ")
    assert line.endswith(" cannot be written: No space left on device")
    assert supervised.stops == 1


def count_kills(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Sets how many processes the kernel has killed for want of memory."""
    return lambda kills: monkeypatch.setattr(limits, "oom_kills", lambda: kills)


def test_each_process_killed_for_want_of_memory_is_told_of_once(
    supervised: Supervised, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tell = supervised.handlers.tell_oom_kills
    tell(events.Tick5Event(0, None))
    assert capsys.readouterr().err == ""
    count_kills(monkeypatch)(2)
    for _ in range(2):
        tell(events.Tick5Event(0, None))
    line = "warning: a process was killed for want of memory (limit 512 MB): fewer UWSGI_PROCESSES or more memory"
    assert capsys.readouterr().err.splitlines() == [line] * 2


def test_memory_explains_a_sigkill_until_a_moment_after_it_was_told_of(
    supervised: Supervised, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = 1000.0
    monkeypatch.setattr(supervised.handlers.oom_kills, "clock", lambda: now)
    count_kills(monkeypatch)(1)
    memory, killed = "killed for want of memory (limit 512 MB)", "killed by signal 9"
    told = []
    for step, later in (("end", 0.0), ("tell", 0.0), ("end", 1.5), ("end", 1.0)):
        now += later
        if step == "tell":
            supervised.handlers.tell_oom_kills(events.Tick5Event(0, None))
            capsys.readouterr()
            continue
        supervised.report(events.ProcessStateExitedEvent, status=KILLED)
        told.append(capsys.readouterr().err.rpartition("nginx was ")[2].strip())
    assert told == [memory, memory, killed]


def test_supervisord_stops_all_when_its_options_are_asked_to() -> None:
    options = Options()
    options.program_events.stop()
    assert options.mood == SupervisorStates.SHUTDOWN
    # A restart that was asked for stays one.
    options.mood = SupervisorStates.RESTARTING
    options.program_events.stop()
    assert options.mood == SupervisorStates.RESTARTING
