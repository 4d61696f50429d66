"""PID 1's verdict on its way to the health check."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dockerable.container import health, healthcheck, watchdog
from tests.support.docker import ROOT

NGINX_ANSWERS = 200, b""
NGINX_SAYS_STARTING = 503, b"<!doctype html><title>Starting</title>"


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    file = tmp_path / "health.json"
    monkeypatch.setattr(health, "PLACE", str(file))
    return file


@pytest.fixture(autouse=True)
def nginx(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HEALTH_PATH", raising=False)
    monkeypatch.setattr(healthcheck, "get", lambda _: NGINX_ANSWERS)


def said(capsys: pytest.CaptureFixture[str], status: int) -> str:
    assert healthcheck.main([]) == status
    return capsys.readouterr().out.removesuffix("\n")


def test_a_site_that_works_is_healthy(capsys: pytest.CaptureFixture[str]) -> None:
    health.write(health.WORKING, requests=7, accepting=2)
    assert said(capsys, 0) == "healthy"


def test_why_a_site_is_stuck_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    health.write(health.STUCK, watchdog.silence(20, None, 1), stuck=20)
    assert said(capsys, 1) == watchdog.silence(20, None, 1)


def test_what_starts_is_told_by_nginx_and_by_pid_1(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    health.write(health.STARTING)
    assert said(capsys, 1) == "the application is starting"
    health.write(health.WORKING)
    monkeypatch.setattr(healthcheck, "get", lambda _: NGINX_SAYS_STARTING)
    assert said(capsys, 1) == "the application is starting"


@pytest.mark.parametrize("text", ["", "{", "{}", '{\n"verdict": "working"\n}\n\n', "{\n" + '"monotonic": x,\n' * 9])
def test_what_cannot_be_read_is_not_healthy(capsys: pytest.CaptureFixture[str], place: Path, text: str) -> None:
    place.write_text(text)
    assert said(capsys, 1).startswith(f"{place} cannot be read: ")


def test_a_verdict_that_is_missing_is_not_healthy(capsys: pytest.CaptureFixture[str], place: Path) -> None:
    assert said(capsys, 1).startswith(f"{place} cannot be read: ")


@pytest.mark.parametrize("age", [health.FRESH + 1, -3600.0])
def test_a_verdict_that_is_old_or_of_another_boot_is_not_healthy(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, age: float
) -> None:
    health.write(health.WORKING)
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + age)
    assert said(capsys, 1) == f"PID 1 has given no verdict for {age:.0f} s"


def test_a_clock_that_jumps_changes_nothing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    health.write(health.WORKING)
    monkeypatch.setattr(time, "time", lambda: 0.0)
    assert said(capsys, 0) == "healthy"


def test_the_file_is_json_of_the_members_that_are_described(place: Path) -> None:
    health.write(health.STUCK, watchdog.silence(20, [], 0), requests=812, accepting=2, stuck=20.04)
    found = json.loads(place.read_text())
    assert found.keys() == health.members().keys()
    assert all(f"\n{name} " in (health.__doc__ or "") for name in found)
    assert found["requests"] == 812
    assert found["accepting"] == 2
    assert found["stuck"] == 20.0
    assert time.strptime(found["time"], "%Y-%m-%dT%H:%M:%SZ")
    assert health.members()["reason"] == found["reason"] == watchdog.silence(20, [], 0)


def test_the_file_is_replaced_and_never_seen_half(place: Path) -> None:
    health.write(health.WORKING)
    before = place.stat().st_ino
    with place.open() as reader:
        health.write(health.STUCK, "x")
        assert place.stat().st_ino != before
        assert json.load(reader)["verdict"] == health.WORKING
    assert [file.name for file in place.parent.iterdir()] == [place.name]


def test_where_run_is_full_the_old_verdict_is_written_over(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    health.write(health.STUCK, "a reason that is longer than the next")
    before = place.stat().st_ino
    (place.parent / "health.json.new").mkdir()
    health.write(health.WORKING, requests=1)
    assert json.loads(place.read_text())["requests"] == 1
    assert place.stat().st_ino == before
    assert health.problem() == ""
    # Nor does it matter to the watchdog that nothing can be written at all.
    monkeypatch.setattr(health, "PLACE", "/proc/health.json")
    health.write(health.WORKING)


@pytest.mark.parametrize(
    "reason",
    [*watchdog.MASTERS.values(), watchdog.silence(99999, None, 9), watchdog.idle_master(None)],
)
def test_every_reason_fits_and_needs_no_escape(place: Path, reason: str) -> None:
    health.write(health.STUCK, f"for 99999 s {reason}", requests=10**12, accepting=1000, stuck=99999)
    assert place.stat().st_size == health.LENGTH
    assert health.problem() == f"for 99999 s {reason}"


def test_the_check_loads_nothing_that_is_slow() -> None:
    code = "import sys; from dockerable.container import healthcheck; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-ISc", f"import sys; sys.path.insert(0, {str(ROOT)!r}); {code}"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert {"json", "re", "pathlib", "dockerable.container.environment"}.isdisjoint(done.stdout.split())
