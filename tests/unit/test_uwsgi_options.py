"""UWSGI_ variables that are not in the table of variables: options of uWSGI, mistakes, an orchestrator's."""

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from dockerable.container import check_environment, uwsgi_options
from dockerable.container.report import Report

OPTIONS = ["buffer-size", "cheaper", "max-requests", "processes", "start_response-nodelay", "workers"]
Check = Callable[[Mapping[str, str]], Report]


@pytest.fixture
def check(monkeypatch: pytest.MonkeyPatch) -> Check:
    """The report on these variables where uWSGI has the options above."""
    listing = f"print({chr(10).join(OPTIONS)!r})"
    monkeypatch.setattr(uwsgi_options, "PYTHON", (sys.executable, "-c", listing))

    def report(environ: Mapping[str, str]) -> Report:
        made = Report()
        uwsgi_options.check(environ, made)
        return made

    return report


def refuse(monkeypatch: pytest.MonkeyPatch, program: str, environ: Mapping[str, str], unset: list[str]) -> Report:
    """The report on a trial of these variables where this program stands for uWSGI."""
    monkeypatch.setattr(uwsgi_options, "PYTHON", (sys.executable, "-c", program))
    report = Report({"UWSGI_PROCESSES": "2"})
    report.unset = unset
    uwsgi_options.try_values({"PATH": os.environ["PATH"], **environ}, report)
    return report


@pytest.mark.parametrize(
    ("name", "end"),
    [
        ("UWSGI_MAX_REQUEST", ": did you mean UWSGI_MAX_REQUESTS?"),
        ("UWSGI_BUFFERSIZE", ": did you mean UWSGI_BUFFER_SIZE?"),
        ("UWSGI_PROCESES", ": did you mean UWSGI_PROCESSES?"),
        ("UWSGI_JSON_LOGGER_7", " (remedy: take it out)"),
        ("UWSGI_PORT", " (remedy: take it out)"),
        # uWSGI looks for the option start-response-nodelay.
        ("UWSGI_START_RESPONSE_NODELAY", " (remedy: take it out)"),
    ],
)
def test_what_is_no_option_is_refused_with_the_nearest(name: str, end: str, check: Check) -> None:
    report = check({name: "5000"})
    assert report.errors == [(64, f"{name} is no option of this image's uWSGI{end}")]
    assert (report.warnings, report.unset) == ([], [])


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("UWSGI_WORKERS", "set UWSGI_PROCESSES"),
        ("UWSGI_workers", "set UWSGI_PROCESSES"),
        ("UWSGI_DAEMONIZE", "supervis"),
    ],
)
def test_an_option_that_the_image_cannot_serve_with_is_refused(name: str, why: str, check: Check) -> None:
    ((status, message),) = check({name: "4"}).errors
    assert status == 64
    assert message.startswith(f"{name} would ")
    assert why in message


def test_options_in_any_case_and_others_variables_pass(check: Check) -> None:
    names = ["UWSGI_MAX_REQUESTS", "UWSGI_cheaper", "UWSGI_THREADS", "UWSGI_RELOADS", "NGINX_X", "A"]
    report = check(dict.fromkeys(names, "1"))
    assert (report.errors, report.warnings, report.unset) == ([], [], [])


def test_an_empty_value_counts_as_not_set(check: Check) -> None:
    report = check({"UWSGI_MAX_REQUESTS": "", "UWSGI_NONSENSE": "", "UWSGI_THREADS": ""})
    assert (report.errors, report.warnings) == ([], [])
    assert report.unset == ["UWSGI_MAX_REQUESTS", "UWSGI_NONSENSE"]


def test_an_orchestrators_addresses_are_ignored_with_a_warning(check: Check) -> None:
    services = {
        "UWSGI_PORT": "tcp://10.43.0.7:8000",
        "UWSGI_PORT_8000_TCP": "tcp://10.43.0.7:8000",
        "UWSGI_PORT_8000_TCP_ADDR": "10.43.0.7",
        "UWSGI_PORT_8000_TCP_PORT": "8000",
        "UWSGI_PORT_8000_TCP_PROTO": "tcp",
        "UWSGI_SERVICE_HOST": "10.43.0.7",
        "UWSGI_SERVICE_PORT": "8000",
        "UWSGI_SERVICE_PORT_HTTP": "8000",
        "UWSGI_STATS_EXPORTER_SERVICE_HOST": "10.43.0.8",
    }
    report = check(services)
    assert report.errors == []
    assert report.unset == list(services)
    assert [line.partition(" ")[0] for line in report.warnings] == list(services)
    assert all(line.endswith("ignored") for line in report.warnings)
    # An option's value may look like such an address.
    assert check({"UWSGI_CHEAPER": "tcp://10.43.0.7:8000"}).unset == []


@pytest.mark.parametrize("python", ["/nowhere/python3", "false"])
def test_where_uwsgi_cannot_be_asked_it_judges_itself(python: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uwsgi_options, "PYTHON", (python,))
    report = Report()
    uwsgi_options.check({"UWSGI_NONSENSE": "1", "UWSGI_PORT": "tcp://10.43.0.7:8000"}, report)
    assert (report.errors, report.unset) == ([], ["UWSGI_PORT"])


def test_uwsgi_is_not_asked_if_there_is_nothing_to_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError

    monkeypatch.setattr(subprocess, "run", never)
    report = Report()
    report.unset = ["UWSGI_PORT"]
    uwsgi_options.check({"UWSGI_THREADS": "2", "PATH": "/bin"}, report)
    uwsgi_options.try_values({"UWSGI_THREADS": "2", "UWSGI_PORT": "tcp://10.43.0.7:8000"}, report)
    assert report.errors == []


def test_an_impossible_value_is_refused_in_uwsgis_own_words(monkeypatch: pytest.MonkeyPatch) -> None:
    program = """import os, sys
assert "UWSGI_PORT" not in os.environ and os.environ["UWSGI_PROCESSES"] == "2"
print("invalid cheaper value: must be lower than processes", file=sys.stderr)
print("unlink(): No such file or directory [core/uwsgi.c line 1687]", file=sys.stderr)
sys.exit(1)"""
    environ = {"UWSGI_CHEAPER": "2", "UWSGI_MAX_REQUESTS": "9", "UWSGI_PORT": "tcp://10.43.0.7:8000"}
    report = refuse(monkeypatch, program, environ, ["UWSGI_PORT"])
    words = "uWSGI refuses UWSGI_CHEAPER, UWSGI_MAX_REQUESTS: invalid cheaper value: must be lower than processes"
    assert report.errors == [(64, words)]


@pytest.mark.parametrize(
    ("program", "cause"),
    [
        ("print('Usage: uwsgi')", "it prints something and ends"),
        ("import sys; print('something else', file=sys.stderr); sys.exit(1)", "something else"),
        ("import sys; sys.exit(7)", "it ends with status 7"),
    ],
)
def test_an_option_with_which_uwsgi_ends_is_refused(program: str, cause: str, monkeypatch: pytest.MonkeyPatch) -> None:
    report = refuse(monkeypatch, program, {"UWSGI_HELP": "1"}, [])
    assert report.errors == [(64, f"uWSGI refuses UWSGI_HELP: {cause}")]


@pytest.mark.parametrize("stdout", ["", "an option's hook printed this"])
def test_a_trial_that_comes_to_its_end_passes(stdout: str, monkeypatch: pytest.MonkeyPatch) -> None:
    program = f"import sys; print({stdout!r}, end=''); print({uwsgi_options.TRIED!r}, file=sys.stderr)"
    assert refuse(monkeypatch, program, {"UWSGI_MAX_REQUESTS": "9"}, []).errors == []
    # The log may go elsewhere by an option.
    assert refuse(monkeypatch, "pass", {"UWSGI_LOGTO": "/data/log"}, []).errors == []


def test_a_trial_that_hangs_is_no_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uwsgi_options, "PATIENCE", 0.3)
    assert refuse(monkeypatch, "import time; time.sleep(60)", {"UWSGI_FLOCK_WAIT": "/x"}, []).errors == []


def test_what_uwsgi_must_not_see_is_unset_by_the_shell(tmp_path: Path) -> None:
    commands = check_environment.shell_commands({"A": "b c"}, ["UWSGI_PORT", "UWSGI_A-B", "UWSGI_\xe4"])
    assert commands == "export A='b c'\nunset UWSGI_PORT\n"
    script = f"{commands}env"
    done = subprocess.run(
        ["sh", "-c", script], env={"UWSGI_PORT": "x", "PATH": os.environ["PATH"]}, capture_output=True, check=True
    )
    assert b"A=b c" in done.stdout
    assert b"UWSGI_PORT" not in done.stdout
