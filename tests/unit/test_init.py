"""PID 1 before and beside the log: what keeps it from starting, an open /run, reloads at SIGHUP."""

import errno
import os
import signal
from pathlib import Path

import pytest

from dockerable.container import init
from dockerable.container.init import Reloads, close_run, explain

FULL = OSError(errno.ENOSPC, "No space left on device", "/run/log")
CLOSED = OSError(errno.EACCES, "Permission denied", "/run/failure")
READ_ONLY = OSError(errno.EROFS, "Read-only file system", "/run/failure")
NOT_EXECUTABLE = OSError(errno.EACCES, "Permission denied", "/app/dockerable/cmd.sh")


@pytest.mark.parametrize(
    ("reason", "gid", "status", "words"),
    [
        (READ_ONLY, 0, 73, "Read-only file system: /run/failure (remedy: --tmpfs /run:mode=0770, as in"),
        (FULL, 0, 73, "No space left on device: /run/log (remedy: room in /run, such as --tmpfs"),
        (CLOSED, 0, 73, "Permission denied: /run/failure (remedy: --tmpfs /run:mode=0770, as in"),
        (CLOSED, 54321, 73, "(remedy: --user 54321:0, since /run belongs to group 0)"),
        (OSError(errno.EMFILE, "Too many open files"), 0, 70, "[Errno 24] Too many open files (remedy: --ulimit"),
        (OSError(errno.EMFILE, "Too many", "/run/log/cmd"), 0, 70, "(remedy: --ulimit nofile=4096, in a compose"),
        (OSError(errno.EBADF, "Bad file descriptor"), 0, 70, "init cannot start: OSError: [Errno 9] Bad file"),
        (NOT_EXECUTABLE, 0, 70, "[Errno 13] Permission denied: '/app/dockerable/cmd.sh'"),
        (RuntimeError("can't start new thread"), 0, 70, "can't start new thread (remedy: a higher --pids-limit)"),
        (BlockingIOError(errno.EAGAIN, "Resource"), 0, 70, "(remedy: a higher --pids-limit)"),
    ],
)
def test_what_keeps_init_from_starting_is_one_line_with_a_remedy(
    reason: Exception, gid: int, status: int, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "getuid", lambda: 54321)
    monkeypatch.setattr(os, "getgid", lambda: gid)
    monkeypatch.setattr(os, "getgroups", lambda: [gid])
    told, message = explain(reason)
    assert (told, words in message, "\n" in message) == (status, True, False), message


@pytest.mark.parametrize(("mode", "after"), [(0o777, 0o770), (0o1777, 0o770), (0o770, 0o770), (0o750, 0o750)])
def test_a_run_of_our_own_is_closed_to_others(
    mode: int, after: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tmp_path.chmod(mode)
    monkeypatch.setattr(init, "RUN", tmp_path)
    assert close_run() == ""
    assert tmp_path.stat().st_mode & 0o7777 == after


def test_a_run_that_is_not_ours_is_warned_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def not_ours(*_: object) -> None:
        raise PermissionError

    tmp_path.chmod(0o1777)
    monkeypatch.setattr(init, "RUN", tmp_path)
    monkeypatch.setattr(Path, "chmod", not_ours)
    warning = f"warning: {tmp_path} may be written by everybody, mode 1777 (remedy: --tmpfs /run:mode=0770, as in "
    assert close_run().startswith(warning)


class Lines:
    """In the place of the relay."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, message: str) -> None:
        self.said.append(message)


@pytest.fixture
def reloads(monkeypatch: pytest.MonkeyPatch) -> Reloads:
    """Each run that is started gets the next pid, from 100 on."""
    pids = iter(range(100, 200))
    monkeypatch.setattr(init, "start", lambda _: next(pids))
    return Reloads(Lines())  # type: ignore[arg-type]


def test_of_many_wishes_during_a_reload_one_reload_comes(reloads: Reloads) -> None:
    reloads.proceed({})
    assert reloads.pid == 0
    reloads.wanted = True
    reloads.proceed({})
    assert reloads.pid == 100
    for _ in range(3):
        reloads.wanted = True
        reloads.proceed({55: 0})
    assert reloads.pid == 100
    reloads.proceed({100: 0})
    assert reloads.pid == 101
    reloads.proceed({101: 0})
    assert (reloads.pid, reloads.wanted) == (0, False)
    assert reloads.relay.said == ["reloading, as SIGHUP asks"] * 2  # type: ignore[attr-defined]


def test_a_reload_that_cannot_be_started_ends_nothing(reloads: Reloads, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(_: object) -> int:
        raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")

    monkeypatch.setattr(init, "start", none)
    reloads.wanted = True
    reloads.proceed({})
    assert (reloads.pid, reloads.wanted) == (0, False)
    assert reloads.relay.said[-1].startswith("error: reload cannot be started: ")  # type: ignore[attr-defined]


def test_a_stop_ends_the_reload_with_all_that_it_started(reloads: Reloads, monkeypatch: pytest.MonkeyPatch) -> None:
    killed: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "killpg", lambda *words: killed.append(words))
    reloads.end()
    reloads.wanted = True
    reloads.proceed({})
    reloads.end()
    assert killed == [(100, signal.SIGKILL)]


def test_what_happens_before_there_is_a_log_is_one_line_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def none(**_: object) -> None:
        raise RuntimeError("no more of anything")

    monkeypatch.setattr(os, "geteuid", lambda: 54321)
    monkeypatch.setattr(init, "RUN", tmp_path)
    monkeypatch.setattr(init, "FAILURE", tmp_path / "failure")
    monkeypatch.setattr(init, "Relay", none)
    assert init.main([]) == 70
    said = capfd.readouterr().out
    assert said == "cmd: error: init cannot start: RuntimeError: no more of anything (remedy: a higher --pids-limit)\n"
