"""PID 1's verdict: the container's exit status and its last line, from how supervisord's run ended."""

import signal
from pathlib import Path

import pytest

from dockerable.container import failure, init, limits
from dockerable.container.init import End, verdict

# Wait statuses, as os.wait() gives them.
KILLED, SEGFAULT = int(signal.SIGKILL), int(signal.SIGSEGV)


def exited(status: int) -> int:
    return status << 8


@pytest.fixture(autouse=True)
def failure_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where /run/failure is; it is not there yet."""
    monkeypatch.setattr(failure, "FAILURE", tmp_path / "failure")
    return tmp_path / "failure"


def judge(end: End, **last_errors: str) -> tuple[int, str]:
    """The verdict where each of these tags of the log has such a last error."""
    return verdict(end, lambda tag: last_errors.get(tag.replace(".", "_"), ""))


def test_what_the_watchdog_found_comes_before_everything(failure_file: Path) -> None:
    failure_file.write_text("78 the settings are wrong\n")
    broken = End(broken="the site has not answered for 90 s", wait_status=KILLED, stopping=True)
    assert judge(broken) == (70, "error: the site has not answered for 90 s")


@pytest.mark.parametrize("end", [End(), End(stopping=True), End(wait_status=KILLED, oom_kills=1)], ids=vars)
def test_the_failure_file_decides_however_supervisord_ended(end: End, failure_file: Path) -> None:
    failure_file.write_text("78 ALLOWED_HOSTS holds '*': name your hosts\n")
    assert judge(end) == (78, "error: ALLOWED_HOSTS holds '*': name your hosts")


@pytest.mark.parametrize("content", ["", "\n", "no status\n"])
def test_a_failure_file_without_a_status_ends_in_70_with_the_remedy(content: str, failure_file: Path) -> None:
    failure_file.write_text(content)
    status, line = judge(End())
    assert status == 70
    assert line.startswith("error: /run/failure, which says why the container ended, cannot be read: ")
    assert line.endswith("(remedy: room in /run, such as --tmpfs /run:mode=0770,size=64m)")


def test_a_failure_file_that_cannot_be_opened_ends_in_70(failure_file: Path) -> None:
    failure_file.mkdir()
    assert judge(End())[0] == 70


@pytest.mark.parametrize(
    ("reason", "errors", "cause"),
    [
        (
            "application failed 5 times in a row, the last time it ended with status 1",
            {"uwsgi": "no port"},
            ": no port",
        ),
        ("application cannot be kept running, the last time it ended with status 1", {"django": "none"}, ": none"),
        (
            "application cannot be kept running, the last time it ended with status 1",
            {"uwsgi": "a", "django": "b"},
            ": a",
        ),
        ("nginx cannot be kept running, the last time it ended with status 1", {"nginx_error": "taken"}, ": taken"),
        ("nginx cannot be kept running, the last time it ended with status 1", {"uwsgi": "not its own"}, ""),
        ("nginx cannot be kept running, the last time it ended with status 1", {}, ""),
        ("nginx cannot be kept running, the last time it was killed by signal 9", {"nginx_error": "before"}, ""),
        ("ALLOWED_HOSTS holds '*'", {"django": "something"}, ""),
    ],
)
def test_the_last_error_of_a_program_that_ended_by_itself_is_added(
    reason: str, errors: dict[str, str], cause: str, failure_file: Path
) -> None:
    failure_file.write_text(f"70 {reason}\n")
    assert judge(End(), **errors) == (70, f"error: {reason}{cause}")


def test_of_a_long_error_its_end_is_added(failure_file: Path) -> None:
    failure_file.write_text("70 nginx failed, it ended with status 1\n")
    _, line = judge(End(), nginx_error="x" * 1000 + "end")
    assert line.endswith("xend")
    assert len(line) < 400


@pytest.mark.parametrize(
    "end", [End(stopping=True), End(stopping=True, wait_status=KILLED), End(wait_status=0)], ids=vars
)
def test_a_stop_is_no_failure(end: End) -> None:
    assert judge(end) == (0, "stopped")


@pytest.mark.parametrize("status", [64, 65, 66, 73, 78])
def test_a_start_that_was_refused_keeps_its_status_and_its_line(status: int) -> None:
    assert judge(End(wait_status=exited(status))) == (status, "")


@pytest.mark.parametrize("status", [1, 69, 70, 75, 127])
def test_any_other_end_of_supervisord_is_a_failure(status: int) -> None:
    assert judge(End(wait_status=exited(status))) == (70, f"error: supervisord ended with status {status}")


@pytest.mark.parametrize(
    ("end", "how"),
    [
        (End(wait_status=KILLED), "was killed by signal 9"),
        (End(wait_status=KILLED, oom_kills=2), "was killed for want of memory (limit 256 MB)"),
        # Not the kernel's signal where memory runs out.
        (End(wait_status=SEGFAULT, oom_kills=2), "was killed by signal 11"),
    ],
)
def test_a_supervisord_that_was_killed_is_said_with_what_did_it(
    end: End, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "memory", lambda: 256 * limits.MIB)
    assert judge(end) == (70, f"error: supervisord {how}")


def test_every_refusal_of_cmd_sh_is_known() -> None:
    assert {64, 65, 66, 73, 78} == init.REFUSALS
