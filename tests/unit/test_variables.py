"""Allowed values and defaults of the container's variables, tested on the modules, without a container."""

import contextlib
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dockerable.container import checks, kinds, unknown_variables, variables
from dockerable.container.report import Report
from dockerable.container.template_values import template_values
from tests.support.docker import ROOT

MODULE = "project.settings.local.settings"
GOOD = {"NGINX_SERVER_NAME": "www.example.com", "DJANGO_SETTINGS_MODULE": MODULE}
CHECKS = {name: variable.check for name, variable in variables.CONTAINER.items()}
INTEGERS = [name for name, variable in variables.CONTAINER.items() if variable.kind.name == kinds.WHOLE_NUMBER]
SWITCHES = ["RUN_MIGRATIONS", "USE_SSL"]
# For each kind of value some that pass; the test of injection changes each of them in every place.
PASSING = {
    "DJANGO_SETTINGS_MODULE": [MODULE, "settings", "_a.b1"],
    "NGINX_SERVER_NAME": [
        "www.example.com",
        "a.test b.test",
        "*.example.com",
        "192.0.2.7",
        "[::1]",
        "xn--bcher-kva.de",
    ],
    "USE_SSL": ["off", "No", "0"],
    "TRUSTED_PROXIES": ["", "10.0.0.0/8", "192.0.2.1 2001:db8::/32", "fe80::1/128"],
    "RUN_MIGRATIONS": ["on", "off", "TRUE", "0"],
    "HEALTH_PATH": ["", "/", "/health/", "/a/b.c-d_e~f?x=1&y=%20"],
    "UWSGI_RELOAD_ON_RSS": ["", "0", "80", "1048576"],
    "NGINX_CLIENT_MAX_BODY_SIZE": ["0", "1000", "512k", "20m", "1G"],
}


def check(**changes: str | None) -> Report:
    """The report on a good environment with these changes; None takes a variable away."""
    report = Report()
    environ = {name: value for name, value in {**GOOD, **changes}.items() if value is not None}
    variables.check(environ, report)
    checks.check_watchdog(report)
    unknown_variables.warn_of_unknown(environ, report)
    return report


def refusal(**changes: str | None) -> str:
    """The one message about one bad value."""
    report = check(**changes)
    ((status, message),) = report.errors
    assert (status, report.status) == (64, 64)
    assert message.startswith(next(iter(changes)))
    assert "\n" not in message
    return message


def test_good_values_are_kept_and_the_rest_has_defaults() -> None:
    report = check(UWSGI_PROCESSES="7", NGINX_CLIENT_MAX_BODY_SIZE="")
    assert (report.errors, report.warnings, report.status) == ([], [], 0)
    assert set(report.values) == set(CHECKS)
    assert report.values["UWSGI_PROCESSES"] == "7"
    assert report.values["NGINX_CLIENT_MAX_BODY_SIZE"] == "20m"
    assert all(CHECKS[name](value) == value for name, value in report.values.items())


def test_the_settings_are_those_of_manage_py_unless_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(variables, "APP", ROOT)
    assert check(DJANGO_SETTINGS_MODULE=None).values["DJANGO_SETTINGS_MODULE"] == MODULE


@pytest.mark.parametrize("name", PASSING)
def test_usual_values_pass(name: str) -> None:
    for value in PASSING[name]:
        assert check(**{name: value}).errors == [], value


def test_server_names_become_lower_case_and_each_appears_once() -> None:
    names = check(NGINX_SERVER_NAME=" WWW.Example.com  b.test www.example.com [0:0::1]").values["NGINX_SERVER_NAME"]
    assert names == "www.example.com b.test [::1]"


@pytest.mark.parametrize("value", [None, "", " "])
def test_a_site_without_a_name_is_refused_with_an_example(value: str | None) -> None:
    assert "(example: www.example.com)" in refusal(NGINX_SERVER_NAME=value)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        *((f"a{character}b.test", "may hold letters") for character in ";{}$'\"`\\\t\n\r\0_&|"),
        ("x; } server { listen 81", "may hold letters"),
        ("-a.test", "may hold letters"),
        ("a-.test", "may hold letters"),
        ("*", "may hold letters"),
        ("a.*.test", "may hold letters"),
        ("a..test", "empty label"),
        (".test", "empty label"),
        ("a.test.", "empty label"),
        ("*.", "empty label"),
        (f"{'a' * 64}.test", "label of more than 63"),
        (f"{'a.' * 125}test", "more than 253"),
        ("https://a.test", "without scheme and port"),
        ("a.test:8080", "without scheme and port"),
        ("a.test,b.test", "separated by spaces"),
        ("192.0.2.256", "neither a host name nor an IPv4 address"),
        ("192.0.2", "neither a host name nor an IPv4 address"),
        ("a.1", "neither a host name nor an IPv4 address"),
        ("[::1", "without scheme and port"),
        ("[::g]", "not an IPv6 address"),
        ("[fe80::1%eth0]", "not an IPv6 address"),
        ("[::1%;}server{listen\t81;}]", "not an IPv6 address"),
    ],
)
def test_what_is_no_host_name_is_refused(name: str, reason: str) -> None:
    assert reason in refusal(NGINX_SERVER_NAME=name)
    assert reason in refusal(NGINX_SERVER_NAME=f"good.test {name}")


@pytest.mark.parametrize("name", [f"{'a' * 63}.test", f"{'a.' * 124}tests"])
def test_the_longest_names_pass(name: str) -> None:
    assert len(name) <= 253
    assert check(NGINX_SERVER_NAME=name).values["NGINX_SERVER_NAME"] == name


@pytest.mark.parametrize(
    ("name", "punycode"),
    [
        ("bücher.example", "xn--bcher-kva.example"),
        ("BÜCHER.example", "xn--bcher-kva.example"),
        ("*.bücher.example", "*.xn--bcher-kva.example"),
        # As browsers and registries write it today; the older rule would name another domain, strasse.example.
        ("straße.example", "xn--strae-oqa.example"),
        ("例え.テスト", "xn--r8jz45g.xn--zckzah"),
        ("www\uff0eexample.com", "www.example.com"),
        ("\u212aelvin.example", "kelvin.example"),
    ],
)
def test_a_unicode_name_is_refused_with_its_punycode_form(name: str, punycode: str) -> None:
    message = refusal(NGINX_SERVER_NAME=name)
    assert message.endswith(f"write {punycode}")
    assert check(NGINX_SERVER_NAME=punycode).errors == []


@pytest.mark.parametrize("name", ["bü;cher.example", "ü..example", f"{'ü' * 64}.example", "\udcff.example"])
def test_a_unicode_name_that_has_no_ascii_form_is_refused_without_one(name: str) -> None:
    assert "write" not in refusal(NGINX_SERVER_NAME=name)


FROM_ZERO = {"NGINX_KEEPALIVE_TIMEOUT", "HSTS_SECONDS", "ACME_DNS_PROPAGATION_SECONDS", "SLOW_REQUEST_SECONDS"}
FROM_ZERO |= {
    "UWSGI_RELOAD_ON_RSS",
    "WATCHDOG_TIMEOUT",
    "NGINX_LIMIT_CONNECTIONS",
    "NGINX_LIMIT_REQUESTS",
    "NGINX_LIMIT_REQUESTS_BURST",
}


@pytest.mark.parametrize("name", INTEGERS)
def test_what_is_no_whole_number_in_range_is_refused_with_the_range(name: str) -> None:
    bad = ["abc", "-1", "1.5", "01", "1e3", " 2", "2 ", "2\n", "+2", "1_0", "0x2", "٣", "²", "9" * 5000]
    for value in [*bad, *(["0"] if name not in FROM_ZERO else [])]:
        message = refusal(**{name: value})
        assert "must be a whole number from " in message, value
        assert len(message) < 300


def test_a_watchdog_must_be_slower_than_harakiri() -> None:
    for good in ("0", "70", "86400", ""):
        assert check(WATCHDOG_TIMEOUT=good, UWSGI_HARAKIRI="60").errors == []
    for bad in ("1", "60", "69"):
        message = refusal(WATCHDOG_TIMEOUT=bad, UWSGI_HARAKIRI="60")
        assert message.startswith(
            f"WATCHDOG_TIMEOUT={bad} must exceed UWSGI_HARAKIRI=60 by 10 seconds at least (0: off)"
        )
    # The default of UWSGI_HARAKIRI counts as well.
    assert "UWSGI_HARAKIRI=60" in refusal(WATCHDOG_TIMEOUT="30")


def test_more_workers_than_any_machine_has_are_refused() -> None:
    assert "from 1 to 512" in refusal(UWSGI_PROCESSES="100000")


def test_there_are_integers_to_judge() -> None:
    assert {"UWSGI_PROCESSES", "UWSGI_THREADS", "NGINX_WORKER_PROCESSES"} <= set(INTEGERS)


@pytest.mark.parametrize("name", SWITCHES)
@pytest.mark.parametrize("value", ["ture", "2", "enabled", "on ", "on\n", "y", "off;"])
def test_a_switch_that_is_no_known_word_is_refused_with_the_words(name: str, value: str) -> None:
    assert "must be one of on, true, yes, 1, off, false, no, 0" in refusal(**{name: value})


@pytest.mark.parametrize("value", ["10q", "10 m", "-1", "1.5m", "m", "10mb", "01m", "1m;", "1m\n", "20M;", "1234567"])
def test_what_is_no_size_is_refused_with_an_example(value: str) -> None:
    assert "such as 512k" in refusal(NGINX_CLIENT_MAX_BODY_SIZE=value)


@pytest.mark.parametrize(
    "value", ["health/", "/a b", "/a\r\nHost: b", "/é", "http://a.test/", "/a;b", "/$x", "/'", "/{}"]
)
def test_what_is_no_path_is_refused_with_an_example(value: str) -> None:
    assert "example: /health/" in refusal(HEALTH_PATH=value)


@pytest.mark.parametrize("value", ["a b", "a..b", ".a", "a.", "1a", "a-b", "a/b", "a;b", "ä", "a\n"])
def test_what_is_no_python_module_is_refused_with_an_example(value: str) -> None:
    assert "must be a Python module" in refusal(DJANGO_SETTINGS_MODULE=value)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("0.0.0.0/0", "would trust everyone"),
        ("0.0.0.0/1 128.0.0.0/1", "would trust too many"),
        ("2000::/3", "would trust too many"),
        ("::/0", "would trust everyone"),
        ("10.0.0.0/8 0.0.0.0/0", "would trust everyone"),
        ("10.0.0.1/8", "did you mean 10.0.0.0/8?"),
        ("2001:db8::1/32", "did you mean 2001:db8::/32?"),
        ("10.0.0.0/33", "is not an address or network"),
        ("10.0.0", "is not an address or network"),
        ("10.0.0.0/8,192.168.0.0/16", "is not an address or network"),
        ("10.0.0.0/8;", "is not an address or network"),
        ("proxy.example.com", "is not an address or network"),
        ("fe80::1%eth0", "is not an address or network"),
        ("::1%;}server{", "is not an address or network"),
        ("10.0.0.0/8\n", "is not an address or network"),
    ],
)
def test_what_is_no_network_or_everyone_is_refused_as_a_trusted_proxy(value: str, reason: str) -> None:
    assert reason in refusal(TRUSTED_PROXIES=value)


def test_networks_are_written_in_one_way() -> None:
    given = "10.1.2.3  192.168.0.0/255.255.0.0 2001:DB8:0:0::/32"
    assert check(TRUSTED_PROXIES=given).values["TRUSTED_PROXIES"] == "10.1.2.3/32 192.168.0.0/16 2001:db8::/32"


@pytest.mark.parametrize("name", CHECKS)
def test_nothing_passes_that_could_end_a_directive_or_a_word_of_the_shell(name: str) -> None:
    evil = ";{}$\"'`\\\n\r\t\0#|<>"
    tried = [
        f"{value[:place]}{before}{character}{after}{value[place:]}"
        for value in [*PASSING.get(name, ["64"]), "[::1]", "::1", "::1/128"]
        for place in range(len(value) + 1)
        for before in ("", "%", " ", "/")
        for character in evil
        for after in ("", "}")
    ]
    passed = set()
    for value in tried:
        with contextlib.suppress(kinds.Invalid):
            passed.add(CHECKS[name](value))
    assert [value for value in passed if set(value) & set(evil)] == []


@pytest.mark.parametrize("place", ["", "data", "/data; } server { listen 81", "/da ta", "/data\n"])
def test_a_data_folder_that_is_no_plain_path_is_refused(place: str) -> None:
    report = Report()
    checks.check_data({"DATA_DIR": place}, report)
    ((status, message),) = report.errors
    assert (status, message) == (64, f"DATA_DIR={place!r} must be an absolute path in the container")


@pytest.mark.parametrize("name", ["NGINX_SERVER_NAME", "TRUSTED_PROXIES"])
def test_what_would_not_fit_into_a_programs_environment_is_refused(name: str) -> None:
    """The shell says `Argument list too long` and nothing else."""
    word = "a.test" if name == "NGINX_SERVER_NAME" else "1::"
    fitting = " ".join([word] * (variables.LONGEST // len(f"{word} ")))
    assert "has 16385 characters, more than 16384" in refusal(**{name: fitting.ljust(16385)})
    report = Report()
    variables.check({**GOOD, name: fitting}, report)
    assert max(map(len, [*report.values.values(), *template_values(report.values).values()])) < 120_000


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("NGINX_SERVERNAME", "NGINX_SERVER_NAME"),
        ("TRUSTED_PROXY", "TRUSTED_PROXIES"),
        ("RUN_MIGRATION", "RUN_MIGRATIONS"),
        ("DJANGO_SETTING_MODULE", "DJANGO_SETTINGS_MODULE"),
        ("USE_SLL", "USE_SSL"),
        ("HEALTHPATH", "HEALTH_PATH"),
    ],
)
def test_a_misspelt_variable_is_warned_of_with_the_nearest_name(name: str, meant: str) -> None:
    report = check(**{name: "x"})
    assert report.status == 0
    assert report.warnings == [f"{name} is not a variable of this image: did you mean {meant}?"]


def test_a_variable_of_nginx_that_has_no_effect_is_warned_of() -> None:
    assert "has no effect" in check(NGINX_GZIP_LEVEL="9").warnings[0]


def test_variables_of_others_are_left_alone() -> None:
    others = dict.fromkeys(("PATH", "HOME", "LANG", "SECRET_KEY", "DATABASE_URL", "UWSGI_BUFFER_SIZE", "TZ"), "x")
    assert check(**others).warnings == []
    near = ("AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "DB_USE_SSL", "APP_LOG_LEVEL", "LOG_LEVEL_DB", "PG_USE_SSL")
    assert check(**dict.fromkeys(near, "x")).warnings == []
    # Kubernetes sets these where a service is called `nginx`.
    services = {
        "NGINX_SERVICE_HOST": "10.0.0.1",
        "NGINX_SERVICE_PORT_HTTP": "80",
        "NGINX_PORT": "tcp://10.0.0.1:80",
        "NGINX_PORT_80_TCP_ADDR": "10.0.0.1",
    }
    assert check(**services).warnings == []


def test_the_status_is_that_of_the_first_kind() -> None:
    order = (64, 66, 65, 78, 73)
    for first in range(len(order)):
        report = Report()
        for status in reversed(order[first:]):
            report.error(status, "wrong")
        assert report.status == order[first]
    assert Report().status == 0


@pytest.mark.parametrize(
    ("files", "module", "status", "words"),
    [
        ({"site/settings/prod/settings.py": "A = 1\n"}, "site.settings.prod.settings", 0, ""),
        ({"site/settings/prod/settings/__init__.py": ""}, "site.settings.prod.settings", 0, ""),
        ({"site/a.py": ""}, "elsewhere.settings", 0, ""),
        ({"site/settings/a.py": ""}, "site.settings.prod.settings", 66, "volumes: ['.:{app}/site/settings/prod:ro']"),
        ({"site/settings/prod/a.py": ""}, "site.settings.prod.settings", 66, "prod/settings.py does not exist"),
        ({"site/settings.py": "A = 1\nB = (\n"}, "site.settings", 65, "settings.py, line 2: '(' was never closed"),
        ({"site/settings.py": "A = '\0'\n"}, "site.settings", 65, "settings.py"),
    ],
)
def test_the_settings_file_is_looked_for_and_compiled(
    tmp_path: Path, files: dict[str, str], module: str, status: int, words: str
) -> None:
    for name, content in files.items():
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
    report = Report({"DJANGO_SETTINGS_MODULE": module})
    checks.check_settings_module(report, tmp_path)
    assert report.status == status
    assert words.format(app=tmp_path) in " ".join(message for _, message in report.errors)


def stand_in(tmp_path: Path, script: str) -> str:
    """A PATH with this script as `application`, the program that would load the settings."""
    program = tmp_path / "bin" / "application"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    return f"{program.parent}:/usr/bin:/bin"


# check_environment, which keeps what it found in a file of the test's instead of /run.
PROGRAM = """
import pathlib, sys
from dockerable.container import check_environment, places
places.ENVIRONMENT = pathlib.Path({!r})
sys.exit(check_environment.main([]))
"""


def start(tmp_path: Path, script: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """`python3 -m dockerable.container.check_environment` as cmd.sh runs it, with such a stand-in."""
    data = tmp_path / "data"
    data.mkdir()
    return subprocess.run(
        [sys.executable, "-S", "-c", PROGRAM.format(str(tmp_path / "environment"))],
        env={"PATH": stand_in(tmp_path, script), "DATA_DIR": str(data), **GOOD, **variables},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


def test_all_that_is_wrong_is_listed_at_once_and_nothing_else_is_printed(tmp_path: Path) -> None:
    variables = {
        "NGINX_SERVER_NAME": "a;b",
        "UWSGI_PROCESSES": "abc",
        "RUN_MIGRATIONS": "ture",
        "NGINX_CLIENT_MAX_BODY_SIZE": "10q",
        "TRUSTED_PROXIES": "0.0.0.0/0",
        "DATA_DIR": str(tmp_path / "nowhere"),
        "USE_SLL": "1",
    }
    done = start(tmp_path, "echo 'error: settings too' >&2; echo noise >&2; exit 78", **variables)
    lines = done.stderr.splitlines()
    assert done.returncode == 64
    assert done.stdout == ""
    assert lines.pop(0).startswith("warning: USE_SLL ")
    assert all(line.startswith("error: ") for line in lines), lines
    wanted = ("'a;b'", "UWSGI_PROCESSES", "RUN_MIGRATIONS", "BODY_SIZE", "TRUSTED_PROXIES", "nowhere", "settings too")
    for words in wanted:
        assert sum(words in line for line in lines) == 1, words
    assert len(lines) == len(wanted)


def test_settings_that_hang_do_not_keep_a_refusal_waiting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "SETTINGS_PATIENCE", 0.3)
    report = check(UWSGI_PROCESSES="abc")
    began = time.monotonic()
    checks.check_settings({"PATH": stand_in(tmp_path, "exec sleep 60")}, report)
    assert time.monotonic() - began < 30
    assert len(report.errors) == 1


def test_settings_are_not_asked_when_nothing_is_wrong(tmp_path: Path) -> None:
    done = start(tmp_path, "exit 78")
    assert (done.returncode, done.stderr) == (0, "")


def test_the_assignments_give_a_shell_the_checked_values(tmp_path: Path) -> None:
    done = start(tmp_path, "exit 78", NGINX_SERVER_NAME="B.test a.test", TRUSTED_PROXIES="10.0.0.0/8 192.0.2.1")
    command = ["sh", "-euc", 'eval "$1"; env', "sh", done.stdout]
    lines = subprocess.run(command, env={}, capture_output=True, text=True, check=True).stdout.splitlines()
    assert {"NGINX_SERVER_NAME=b.test a.test", "FIRST_SERVER_NAME=b.test", "NGINX_READ_TIMEOUT=130"} <= set(lines)
    assert {"SET_REAL_IP_FROM=set_real_ip_from 10.0.0.0/8;", "set_real_ip_from 192.0.2.1/32;"} <= set(lines)
    # The list for envsubst names each of ours, so that nginx's own survive.
    (templates,) = (line.split("=", 1)[1].split() for line in lines if line.startswith("TEMPLATE_VARIABLES="))
    assert {f"${{{name}}}" for name in (*CHECKS, "SET_REAL_IP_FROM", "DATA_DIR")} <= set(templates)
