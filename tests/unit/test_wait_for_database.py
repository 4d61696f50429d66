"""A database that does not answer is waited for; the log and `ctl up` say why from the first attempt on."""

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from django.db import OperationalError

from dockerable.application import database
from dockerable.container import phase

DOWN = 'connection to server at "db", port 5432 failed: Connection refused'
WRONG = 'FATAL:  password authentication failed for user "app"'


@pytest.fixture(autouse=True)
def phase_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where /run/phase is."""
    monkeypatch.setattr(phase, "PHASE", str(tmp_path / "phase"))
    return tmp_path / "phase"


class Server:
    """A database that fails with these errors, one at each attempt, and then answers. Half a second is an attempt."""

    def __init__(self, errors: list[str], vendor: str = "postgresql") -> None:
        self.errors: Iterator[str] = iter(errors)
        self.vendor = vendor
        self.now = 0.0
        # What was waited for before each attempt, and after each pause.
        self.phases: list[str] = []

    def ensure_connection(self) -> None:
        self.phases.append(phase.read())
        for error in self.errors:
            raise OperationalError(error)

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def wait(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "connection", server)
    clock = SimpleNamespace(monotonic=lambda: server.now, sleep=server.sleep)
    monkeypatch.setattr(database, "time", clock)
    database.wait_for_database()


def test_the_first_failure_is_a_warning_and_the_phase(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    server = Server([f"{WRONG}\n\tand more"])
    wait(server, monkeypatch)
    line = 'waiting for the database: FATAL: password authentication failed for user "app" and more'
    assert capsys.readouterr().err == f"warning: {line}\n"
    assert server.phases == ["connecting to the database", line]
    assert phase.read() == ""


def test_another_reason_is_told_at_once_and_the_same_again_after_ten_seconds(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # 4 s down, then by turns for 20 s.
    server = Server([DOWN] * 8 + [WRONG, DOWN] * 20)
    wait(server, monkeypatch)
    told = ["refused" if "refused" in line else "wrong" for line in capsys.readouterr().err.splitlines()]
    assert told == ["refused", "wrong", "refused", "wrong", "refused"]


def test_sqlite_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server(["unable to open database file"], vendor="sqlite")
    with pytest.raises(OperationalError):
        wait(server, monkeypatch)
    assert server.phases == [""]


def test_where_the_phase_cannot_be_written_the_log_tells(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], phase_file: Path
) -> None:
    phase_file.mkdir()
    wait(Server([DOWN]), monkeypatch)
    assert "warning: waiting for the database: " in capsys.readouterr().err
    assert phase.read() == ""
