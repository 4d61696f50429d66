"""The values that a start keeps, and how a program that starts later takes them."""

import os
import stat
from pathlib import Path

import pytest

from dockerable.container import check_environment, checks, environment, manage, places, variables
from dockerable.container.report import Report

GOOD = {
    "NGINX_SERVER_NAME": "B.test a.test",
    "DJANGO_SETTINGS_MODULE": "elsewhere.settings",
    "USE_SSL": "FALSE",
    "TRUSTED_PROXIES": "10.0.0.0/8 192.0.2.1",
    "UWSGI_HARAKIRI": "7",
}


@pytest.fixture(autouse=True)
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file that stands for /run/environment; it is not there yet, and the process has no variables."""
    monkeypatch.setattr(places, "ENVIRONMENT", tmp_path / "environment")
    for name in set(os.environ) - {"PATH"}:
        monkeypatch.delenv(name)
    monkeypatch.setenv("DATA_DIR", str(tmp_path))
    return places.ENVIRONMENT


def start(monkeypatch: pytest.MonkeyPatch, *arguments: str, **changes: str) -> int:
    """What cmd.sh runs, with a good environment and these changes; the exit status."""
    for name, value in {**GOOD, **changes}.items():
        monkeypatch.setenv(name, value)
    status = check_environment.main(list(arguments))
    for name in {**GOOD, **changes}:
        monkeypatch.delenv(name)
    return status


def test_a_start_keeps_what_later_programs_read(monkeypatch: pytest.MonkeyPatch, kept: Path) -> None:
    assert start(monkeypatch) == 0
    report = environment.read({})
    assert report.errors == []
    assert set(report.values) == set(variables.CONTAINER)
    values = report.values
    assert (values["NGINX_SERVER_NAME"], values["USE_SSL"], values["UWSGI_HARAKIRI"]) == ("b.test a.test", "off", "7")
    assert values["WATCHDOG_TIMEOUT"] == "37"
    # As /proc/PID/environ: a value may hold newlines.
    assert b"\0SET_REAL_IP_FROM=set_real_ip_from 10.0.0.0/8;\nset_real_ip_from 192.0.2.1/32;\0" in kept.read_bytes()
    assert kept.read_bytes().endswith(b"\0")
    assert not list(kept.parent.glob("environment.*"))


def test_a_refused_start_keeps_nothing(
    monkeypatch: pytest.MonkeyPatch, kept: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(checks, "check_settings", lambda *_: None)
    assert start(monkeypatch, USE_SSL="ture") == 64
    assert not kept.exists()
    assert capsys.readouterr().out == ""


def test_a_place_that_cannot_be_written_is_73_with_the_remedy(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(places, "ENVIRONMENT", tmp_path / "nowhere/environment")
    assert start(monkeypatch) == 73
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == f"error: {tmp_path}/nowhere/environment cannot be written: No such file or directory " + (
        "(remedy: room in /run, such as --tmpfs /run:mode=0770,size=64m)\n"
    )


def test_a_value_of_the_programs_own_wins_and_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    start(monkeypatch, LOG_LEVEL="warning")
    assert environment.read({"LOG_LEVEL": "Debug"}).values["LOG_LEVEL"] == "debug"
    assert environment.read({"LOG_LEVEL": ""}).values["LOG_LEVEL"] == "warning"
    report = environment.read({"LOG_LEVEL": "loud"})
    assert report.errors == [(64, "LOG_LEVEL='loud' must be one of debug, info, warning, error, critical")]


def test_what_a_default_depends_on_may_be_the_programs_own(monkeypatch: pytest.MonkeyPatch) -> None:
    assert environment.read({"NGINX_SERVER_NAME": "a.test", "UWSGI_HARAKIRI": "5"}).values["WATCHDOG_TIMEOUT"] == "35"


def test_without_a_start_values_are_derived_and_what_must_be_set_may_be_missing() -> None:
    report = environment.read({}, required=False)
    assert report.errors == []
    assert "NGINX_SERVER_NAME" not in report.values
    assert (report.values["LOG_FORMAT"], report.values["WATCHDOG_TIMEOUT"]) == ("text", "90")
    assert environment.read({}).errors == [(64, "NGINX_SERVER_NAME is not set (example: www.example.com)")]


def test_a_reload_takes_what_the_start_kept(
    monkeypatch: pytest.MonkeyPatch, kept: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    start(monkeypatch)
    monkeypatch.setattr(variables.limits, "default_processes", lambda: 99)
    before = kept.read_bytes()
    capsys.readouterr()
    assert check_environment.main(["--reload"]) == 0
    printed = capsys.readouterr().out
    assert "export NGINX_SERVER_NAME='b.test a.test'\n" in printed
    assert "UWSGI_PROCESSES=99" not in printed
    assert kept.read_bytes() == before


def executed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *arguments: str) -> tuple[list[str], dict[str, str]]:
    """What `manage` becomes: its arguments and variables; empty where it refuses."""
    seen: list[tuple[list[str], dict[str, str]]] = []
    monkeypatch.setattr(manage, "APP", tmp_path)
    monkeypatch.setattr(os, "geteuid", lambda: 10001)
    monkeypatch.setattr(os, "execve", lambda _, words, environ: seen.append((words, environ)))
    before, place = os.umask(0o022), Path.cwd()
    try:
        manage.main(list(arguments))
        assert not seen or os.umask(0) == 0o007
    finally:
        os.umask(before)
        os.chdir(place)
    return seen[0] if seen else ([], {})


def test_manage_runs_with_the_sites_values(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    start(monkeypatch)
    monkeypatch.setenv("LOG_LEVEL", "DEBUG")
    words, environ = executed(monkeypatch, tmp_path, "check", "--deploy")
    assert words == ["python3", "manage.py", "check", "--deploy"]
    assert (environ["USE_SSL"], environ["NGINX_SERVER_NAME"]) == ("off", "b.test a.test")
    assert (environ["LOG_LEVEL"], environ["DATA_DIR"]) == ("debug", str(tmp_path))
    monkeypatch.setenv("LOG_LEVEL", "loud")
    assert executed(monkeypatch, tmp_path, "check") == ([], {})
    assert capsys.readouterr().err == (
        "manage: error: LOG_LEVEL='loud' must be one of debug, info, warning, error, critical\n"
    )


def test_manage_needs_no_variable(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    words, environ = executed(monkeypatch, tmp_path, "help")
    assert words[1:] == ["manage.py", "help"]
    # Empty would be worse than missing: it is a name for Django.
    assert "DJANGO_SETTINGS_MODULE" not in environ


@pytest.mark.parametrize(
    ("words", "writable", "warned"),
    [
        (["makemigrations"], False, True),
        (["makemigrations", "shop", "--name", "price"], False, True),
        (["startapp", "shop"], False, True),
        (["makemessages", "-l", "de"], False, True),
        (["makemigrations", "--check"], False, False),
        (["makemigrations", "--dry-run"], False, False),
        (["startapp", "--help"], False, False),
        (["migrate"], False, False),
        ([], False, False),
        # The source is mounted there.
        (["makemigrations"], True, False),
    ],
)
def test_a_command_that_writes_code_is_warned_of_where_the_code_cannot_be_written(
    words: list[str],
    writable: bool,
    warned: bool,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(os, "access", lambda *_: writable)
    assert executed(monkeypatch, tmp_path, *words)[0] == ["python3", "manage.py", *words]
    said = capsys.readouterr().err
    assert said.startswith(f"manage: warning: {words[0]} works on the code in the image") if warned else said == ""
    assert said.count("\n") == warned


def test_what_is_kept_is_for_owner_and_group(monkeypatch: pytest.MonkeyPatch, kept: Path) -> None:
    before = os.umask(0o007)
    try:
        start(monkeypatch)
    finally:
        os.umask(before)
    assert stat.S_IMODE(kept.stat().st_mode) == 0o660


def test_a_report_lists_each_error_once_in_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    report = Report(warnings=["careful"])
    report.error(66, "missing")
    report.error(64, "wrong")
    report.print()
    assert capsys.readouterr().err == "warning: careful\nerror: missing\nerror: wrong\n"
    assert report.status == 64
