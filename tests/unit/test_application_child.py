"""Steps of the application's start that run in a child process: exit status and failure file."""

import os
import signal
from pathlib import Path

import pytest

from dockerable.application import child
from dockerable.application.refusals import Final
from dockerable.container import failure


class Unshowable(Exception):
    """An exception that raises when it is turned into text."""

    def __str__(self) -> str:
        raise RuntimeError("no text")


@pytest.fixture
def failure_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(failure, "FAILURE", tmp_path / "failure")
    return tmp_path / "failure"


def refuse() -> None:
    raise Final(66, ["secrets.json is missing", "DEBUG is on"])


def cannot_be_shown() -> None:
    raise Unshowable


def kill_itself() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_step_in_a_child_gives_its_status_and_its_problems(
    failure_file: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert child.in_child(lambda: None, ends_container=True) == 0
    assert child.in_child(refuse) == 66
    assert capfd.readouterr().err.splitlines() == ["error: secrets.json is missing", "error: DEBUG is on"]
    assert child.in_child(kill_itself, ends_container=True) == -9
    # None of these ends the container.
    assert not failure_file.exists()


def test_a_step_that_ends_the_container_leaves_why_for_pid_1(failure_file: Path) -> None:
    assert child.in_child(refuse, ends_container=True) == 66
    assert failure.read() == (66, "secrets.json is missing; DEBUG is on")


def test_an_exception_that_cannot_be_shown_is_70_with_its_traceback(
    failure_file: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert child.in_child(cannot_be_shown, ends_container=True) == 70
    shown = capfd.readouterr().err
    assert "in cannot_be_shown" in shown
    assert "RuntimeError: no text" in shown
    # Not known to be final: supervise starts it again.
    assert not failure_file.exists()


def test_a_failure_that_cannot_be_written_is_logged(failure_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    failure_file.mkdir()
    assert child.attempt(refuse, ends_container=True) == 66
    assert capsys.readouterr().err.splitlines()[-1].endswith("/run/failure cannot be written: Is a directory")
