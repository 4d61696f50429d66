"""The certificate program: its commands, what they say where, and how they end."""

import errno
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from dockerable.certificates import clock, program, served
from dockerable.certificates.backoff import Attempts
from dockerable.container import places
from tests.support.acme import DIRECTORY
from tests.support.certificate_host import Host, Lines
from tests.support.certificates import NAMES, lineage, made_up, wanted
from tests.support.wait import wait_until

DAY = timedelta(days=1)


@pytest.fixture
def main(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Run a command of a site with these variables: exit status, stdout, stderr."""
    monkeypatch.setattr(os, "geteuid", lambda: 10001)

    def run(*arguments: str, **given: str) -> tuple[int, str, str]:
        site = {"NGINX_SERVER_NAME": " ".join(NAMES), "USE_SSL": "on", "ACME_SERVER": DIRECTORY}
        for name, value in {**site, "DJANGO_SETTINGS_MODULE": "project.settings", **given}.items():
            monkeypatch.setenv(name, value)
        status = program.main(list(arguments))
        out, err = capsys.readouterr()
        return status, out, err

    return run


@pytest.mark.parametrize(
    ("lifetime", "interval"),
    [
        (90 * DAY, timedelta(hours=12)),
        (45 * DAY, timedelta(hours=12)),
        (timedelta(hours=160), timedelta(hours=3.2)),
        (timedelta(minutes=10), timedelta(seconds=12)),
        (timedelta(seconds=30), timedelta(seconds=5)),
    ],
)
def test_how_often_is_asked_comes_from_the_lifetime(lifetime: timedelta, interval: timedelta) -> None:
    assert program.check_interval(lifetime) == interval.total_seconds()


@pytest.mark.parametrize("arguments", [["install"], ["renew"], ["status"], ["nonsense"]])
def test_without_https_there_is_nothing_to_do(main: Any, host: Host, arguments: list[str]) -> None:
    status, out, err = main(*arguments, USE_SSL="off")
    assert status == 64
    assert (out + err).removeprefix("certificate: ") == "error: USE_SSL is off\n"


def test_wrong_variables_are_all_named(main: Any, host: Host) -> None:
    status, out, err = main("status", NGINX_SERVER_NAME="a/b", ACME_STAGING="perhaps")
    assert (status, out) == (64, "")
    assert err.startswith("certificate: error: NGINX_SERVER_NAME: 'a/b' may hold letters")
    assert "; ACME_STAGING='perhaps' must be one of" in err


@pytest.mark.parametrize("arguments", [["nonsense"], ["install", "now"], ["status", "--yaml"], ["renew", "all"]])
def test_another_command_is_refused_with_the_usage(main: Any, host: Host, arguments: list[str]) -> None:
    status, out, err = main(*arguments)
    assert status == 64
    assert out + err == "certificate: error: usage: certificate [install | renew | status [--json]]\n"


def test_a_start_installs_a_temporary_certificate_and_says_so_to_the_log_alone(main: Any, host: Host) -> None:
    status, out, err = main("install")
    assert (status, err) == (0, "")
    pair = served.in_use()
    assert pair and pair.temporary
    until = clock.rfc3339(pair.leaf.not_valid_after_utc)
    assert out == f"nginx has a temporary certificate for {' '.join(NAMES)}, valid until {until}\n"
    for place in places.TLS.rglob("*"):
        assert place.is_symlink() or place.stat().st_mode & 0o007 == 0
    assert main("install") == (0, "", "")
    assert host.reloads == 1


def test_a_start_without_room_in_run_ends_with_the_remedy(
    main: Any, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: object) -> bool:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(served, "install", full)
    status, out, err = main("install")
    assert (status, err) == (73, "")
    assert out.endswith(f"cannot be written: No space left on device {places.ROOM_IN_RUN}\n")


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"key": made_up().key}, "has a key that does not belong to it"),
        ({"chain": b"nothing\n"}, "does not parse: its chain is empty, truncated or no PEM"),
    ],
)
def test_an_own_certificate_that_cannot_be_used_ends_a_start(
    main: Any, host: Host, files: dict[str, bytes], said: str
) -> None:
    variables = host.own(**files)
    assert main("install", **variables) == (65, f"error: {variables['TLS_CERTIFICATE']} {said}\n", "")
    assert served.in_use() is None


def test_an_own_certificate_that_nginx_refuses_ends_a_start(main: Any, host: Host) -> None:
    host.refuses = "no"
    variables = host.own()
    said = f"error: {variables['TLS_CERTIFICATE']} is refused by nginx: no\n"
    assert main("install", **variables) == (65, said, "")
    assert served.in_use() is None


def test_an_own_certificate_is_not_renewed(main: Any, host: Host) -> None:
    variables = host.own()
    status, out, err = main("renew", **variables)
    assert (status, out) == (64, "")
    assert err == f"certificate: {variables['TLS_CERTIFICATE']} is yours: nothing to renew\n"
    assert host.calls() == []


def test_the_status_is_printed_as_text_and_as_json(main: Any, host: Host) -> None:
    lineage(places.LETSENCRYPT)
    status, out, err = main("status")
    assert (status, err) == (0, "")
    assert out.startswith("names         example.test www.example.test\nstate         ok\n")
    status, out, err = main("status", "--json")
    assert (status, err) == (0, "")
    assert json.loads(out)["stored"]["names"] == list(NAMES)
    assert not places.CERTIFICATE_STATUS.exists()


def test_a_renewal_that_is_refused_ends_with_1_and_the_reason(main: Any, host: Host) -> None:
    before = lineage(places.LETSENCRYPT).file("cert").read_bytes()
    (host.place / "refusal").write_text("Saving debug log to x\ntoo many certificates\n")
    status, out, err = main("renew")
    assert status == 1
    assert "certificate: error: no certificate: too many certificates; next try at 2" in err
    found = json.loads(out)
    assert (found["state"], found["last_error"]) == ("failing", "too many certificates")
    assert json.loads(places.CERTIFICATE_STATUS.read_text()) == found
    # Another uid of the group may go on with it.
    for file in (places.CERTIFICATE_STATUS, places.LETSENCRYPT / "attempts.json"):
        assert file.stat().st_mode & 0o777 == 0o660
    assert host.calls() == ["renew --non-interactive --cert-name example.test --no-directory-hooks --force-renewal"]
    assert (places.LETSENCRYPT / "live/example.test/cert.pem").read_bytes() == before


def test_a_renewal_serves_what_it_got_whatever_the_time_of_the_next_try(main: Any, host: Host) -> None:
    lineage(places.LETSENCRYPT)
    Attempts.load(wanted(ACME_SERVER=DIRECTORY)).failed("no", clock.now().timestamp() + 3600)
    lineage(host.place / "next")
    status, out, err = main("renew")
    assert status == 0
    found = json.loads(out)
    assert (found["state"], found["last_error"], found["next_attempt"]) == ("ok", "", None)
    assert found["served"] == found["stored"]
    assert err.startswith("certificate: nginx has a certificate of CN=an authority for example.test www.example.test")
    assert len(host.calls()) == 1


def test_another_s_renewal_meanwhile_is_enough(main: Any, host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = iter([made_up().leaf, made_up().leaf])
    monkeypatch.setattr(program.lineage, "stored_leaf", lambda _: next(seen))
    status, _, err = main("renew")
    assert (status, err, host.calls()) == (0, "certificate: another has renewed it in the meantime\n", [])


def test_a_program_that_starts_again_does_not_repeat_what_the_start_has_said(
    host: Host, lines: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    lineage(places.LETSENCRYPT)
    one = host.program()
    one.install()
    lines()

    class Enough(Exception):
        pass

    def enough(_: float) -> None:
        raise Enough

    monkeypatch.setattr(program, "time", SimpleNamespace(monotonic=time.monotonic, sleep=enough))
    with pytest.raises(Enough):
        host.program().keep()
    assert not [line for line in lines() if "nginx has" in line]


def test_it_waits_for_nginx_s_start_and_reload_but_not_for_ever(
    host: Host, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(places, "NGINX_PID", tmp_path / "nginx.pid")
    monkeypatch.setattr(program, "STARTING", 0.05)
    naps: list[float] = []
    monkeypatch.setattr(program, "time", SimpleNamespace(monotonic=time.monotonic, sleep=naps.append))
    program.wait_for_nginx()
    assert naps
    naps.clear()
    served.install(made_up())
    places.NGINX_PID.write_text("1")
    program.wait_for_nginx()
    assert naps == []
    host.serves = made_up().leaf
    monkeypatch.setattr(program, "SETTLING", 0.05)
    program.settle(wanted())
    assert naps
    naps.clear()
    host.reload()
    program.settle(wanted())
    assert naps == []


def test_a_stop_kills_the_group_at_once(host: Host) -> None:
    script = (
        "import os, signal, subprocess, time\n"
        "from dockerable.certificates import program\n"
        "signal.signal(signal.SIGTERM, program.stop)\n"
        "child = subprocess.Popen(['sleep', '60'])\n"
        "print(child.pid, flush=True)\n"
        # A signal just before a sleep is handled after it.
        "while True: time.sleep(0.1)\n"
    )

    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, start_new_session=True)
    assert process.stdout
    child = int(process.stdout.readline())
    process.terminate()
    assert process.wait(10) == -signal.SIGKILL
    # A killed one may wait for its new parent, with nothing that it runs.
    wait_until(lambda: not os.path.exists(f"/proc/{child}/exe"))
