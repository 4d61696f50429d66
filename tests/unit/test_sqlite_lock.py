"""Two starts on one SQLite database: one opens and migrates it, the other waits, whatever becomes of the first."""

import errno
import fcntl
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from dockerable.application import sqlite
from dockerable.application.refusals import Final
from tests.support.wait import wait_until

HOLD = "import fcntl, sys, time; lock = open(sys.argv[1], 'a'); fcntl.flock(lock, 2); print(flush=True); time.sleep(60)"
WAITS = "waiting for another start that migrates"


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    lines: list[str] = []
    monkeypatch.setattr(sqlite, "log", lines.append)
    return lines


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of the default database."""
    use(monkeypatch, "django.db.backends.sqlite3", tmp_path / "db.sqlite3")
    return tmp_path / "db.sqlite3"


@pytest.fixture
def hold(file: Path) -> Iterator[Callable[[], "subprocess.Popen[bytes]"]]:
    """Starts a process that holds the lock."""
    started: list[subprocess.Popen[bytes]] = []

    def start() -> "subprocess.Popen[bytes]":
        started.append(subprocess.Popen([sys.executable, "-c", HOLD, f"{file}.lock"], stdout=subprocess.PIPE))
        assert started[-1].stdout
        started[-1].stdout.readline()
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def use(monkeypatch: pytest.MonkeyPatch, engine: str, name: object) -> None:
    monkeypatch.setattr(sqlite, "connection", SimpleNamespace(settings_dict={"ENGINE": engine, "NAME": name}))


def test_a_start_waits_for_another_and_goes_on_when_that_one_is_killed(
    file: Path, said: list[str], hold: Callable[[], "subprocess.Popen[bytes]"]
) -> None:
    other, entered = hold(), threading.Event()

    def start() -> None:
        with sqlite.alone():
            entered.set()

    thread = threading.Thread(target=start, daemon=True)
    thread.start()
    wait_until(lambda: said == [WAITS])
    assert not entered.is_set()
    other.send_signal(signal.SIGKILL)
    thread.join(20)
    assert entered.is_set()
    assert said == [WAITS]


def test_it_is_held_until_the_end_and_any_uid_of_the_group_may_take_it(file: Path, said: list[str]) -> None:
    with sqlite.alone(), Path(f"{file}.lock").open("a") as other:
        with pytest.raises(BlockingIOError):
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        assert os.fstat(other.fileno()).st_mode & 0o770 == 0o660
    with sqlite.alone():
        pass
    assert said == []


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_where_nothing_can_be_locked_the_start_goes_on_with_a_warning(
    file: Path, said: list[str], monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(sqlite.fcntl, "flock", refuse)
    with sqlite.alone():
        pass
    (line,) = said
    assert line.startswith(f"warning: {file}.lock cannot be locked ({os.strerror(code)}): ")


def test_a_link_in_place_of_the_lock_is_not_followed(file: Path, said: list[str]) -> None:
    Path(f"{file}.lock").symlink_to(file.with_name("elsewhere"))
    with sqlite.alone():
        pass
    assert [path.name for path in file.parent.iterdir()] == ["db.sqlite3.lock"]
    assert len(said) == 1


def test_a_lock_that_may_not_be_opened_ends_the_start(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> int:
        raise PermissionError

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(Final) as final, sqlite.alone():
        pass
    assert final.value.status == 73
    assert final.value.problems[0].startswith(f"{file}.lock cannot be written by uid ")


@pytest.mark.parametrize(
    ("engine", "name"),
    [("django.db.backends.postgresql", "app"), ("django.db.backends.sqlite3", ":memory:")],
)
def test_a_server_and_a_database_in_memory_have_no_lock(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, engine: str, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    use(monkeypatch, engine, name)
    with sqlite.alone():
        pass
    assert [*tmp_path.iterdir()] == []


def test_what_a_start_raises_is_passed_on_and_the_lock_is_free(file: Path) -> None:
    for _ in range(2):
        with pytest.raises(OSError, match="full"), sqlite.alone():
            raise OSError("full")
