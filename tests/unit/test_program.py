"""The certificate program: its actions, log lines and exit statuses."""

import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cryptography import x509

from dockerable.certificates import backoff, clock, log, orders, pairs, program, served
from dockerable.certificates.backoff import Attempts
from dockerable.certificates.program import Program
from dockerable.container import nginx, places
from tests.support.acme import DIRECTORY
from tests.support.certificates import NAMES, lineage, made_up, values, wanted, write
from tests.support.wait import wait_until

DAY = timedelta(days=1)
# Plays certbot: records its arguments, then fails with the text in `refusal`, or stores the pair in `next`.
CERTBOT = """\
#!/bin/sh
echo "$*" >>{place}/calls
if [ -e {place}/refusal ]; then cat {place}/refusal; exit 1; fi
if [ -e {place}/next ]; then rm -rf {stored}/live {stored}/archive {stored}/renewal; cp -a {place}/next/. {stored}; fi
"""


@dataclass
class Host:
    """The program's surroundings in a folder: the stored lineage, and stand-ins for certbot and nginx."""

    place: Path
    reloads: int = 0
    serves: x509.Certificate | None = None

    def calls(self) -> list[str]:
        """What certbot was called with."""
        file = self.place / "calls"
        return file.read_text().splitlines() if file.exists() else []

    def program(self, **given: str) -> Program:
        """The program of a site that asks Pebble."""
        given = {"ACME_SERVER": DIRECTORY, **given}
        return Program(wanted(**given), values(**given))

    def reload(self) -> str:
        """nginx serves what it was given by now."""
        self.reloads += 1
        pair = served.in_use()
        self.serves = pair.leaf if pair else None
        return ""


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    made = Host(tmp_path)
    for name in ("LETSENCRYPT", "TLS", "CERTBOT", "WEBROOT", "CERTIFICATE_STATUS"):
        monkeypatch.setattr(places, name, tmp_path / name.lower())
    monkeypatch.setattr(places, "CERTBOT_LOG", tmp_path / "no log")
    monkeypatch.setattr(nginx, "reload", made.reload)
    monkeypatch.setattr(served, "ask_nginx", lambda _: made.serves)
    monkeypatch.setattr(orders, "diagnose", lambda *_: ["a finding"])
    monkeypatch.setattr(program, "SETTLING", 0)
    places.LETSENCRYPT.mkdir()
    certbot = tmp_path / "bin/certbot"
    certbot.parent.mkdir()
    certbot.write_text(CERTBOT.format(place=tmp_path, stored=places.LETSENCRYPT))
    certbot.chmod(0o755)
    monkeypatch.setenv("PATH", f"{certbot.parent}:{os.environ['PATH']}")
    mask = os.umask(0o022)
    yield made
    os.umask(mask)
    log.log.handlers.clear()


Lines = Callable[[], list[str]]


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> Lines:
    """The supervised program's log since it was last asked for."""
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stdout", stream)
    log.start_log([])

    def take() -> list[str]:
        said = stream.getvalue().splitlines()
        stream.seek(0)
        stream.truncate()
        return said

    return take


@pytest.fixture
def main(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Run a command of a site with these variables: exit status, stdout, stderr."""

    def run(*arguments: str, **given: str) -> tuple[int, str, str]:
        site = {"NGINX_SERVER_NAME": " ".join(NAMES), "USE_SSL": "on", "ACME_SERVER": DIRECTORY}
        for name, value in {**site, "DJANGO_SETTINGS_MODULE": "project.settings", **given}.items():
            monkeypatch.setenv(name, value)
        status = program.main(list(arguments))
        out, err = capsys.readouterr()
        return status, out, err

    return run


def own(host: Host, **files: bytes) -> dict[str, str]:
    """The variables of an own certificate, which is good but for the content of these files."""
    chain, key = write(made_up(), host.place / "own")
    for name, content in files.items():
        {"chain": chain, "key": key}[name].write_bytes(content)
    return {"TLS_CERTIFICATE": str(chain), "TLS_CERTIFICATE_KEY": str(key)}


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
    variables = own(host, **files)
    assert main("install", **variables) == (65, f"error: {variables['TLS_CERTIFICATE']} {said}\n", "")
    assert served.in_use() is None


def test_an_own_certificate_is_not_renewed(main: Any, host: Host) -> None:
    variables = own(host)
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


def test_the_first_certificate_is_ordered_and_served_with_few_words(host: Host, lines: Lines) -> None:
    lineage(host.place / "next")
    one = host.program()
    one.look()
    said = lines()
    assert [line.partition(", valid")[0] for line in said] == [
        "nginx has a temporary certificate for example.test www.example.test",
        f"the stored certificate does not exist yet; asking {DIRECTORY}",
        "note: a finding",
        "nginx has a certificate of CN=an authority for example.test www.example.test",
    ]
    assert "certonly" in host.calls()[0]
    assert json.loads(places.CERTIFICATE_STATUS.read_text())["state"] == "ok"
    assert host.reloads == 2
    for _ in range(3):
        one.look()
    assert (lines(), len(host.calls()), host.reloads) == ([], 1, 2)


def test_a_failure_is_not_repeated_before_its_time(host: Host, lines: Lines, monkeypatch: pytest.MonkeyPatch) -> None:
    (host.place / "refusal").write_text("too many certificates\n")
    one = host.program()
    for _ in range(3):
        one.look()
    said = lines()
    assert [line for line in said if line.startswith("error: no certificate: too many certificates; next try at 2")]
    assert (len(host.calls()), len(said)) == (1, 4)
    assert json.loads(places.CERTIFICATE_STATUS.read_text())["state"] == "temporary"
    later = clock.now() + backoff.FIRST_BACKOFF + timedelta(seconds=1)
    monkeypatch.setattr(clock, "now", lambda: later)
    one.look()
    assert len(host.calls()) == 2
    # At once, not within a minute.
    assert json.loads(places.CERTIFICATE_STATUS.read_text())["last_attempt"] == clock.rfc3339(later)


def test_whether_to_renew_is_asked_once_in_an_interval(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    lineage(places.LETSENCRYPT)
    now = 1000.0
    monkeypatch.setattr(program, "time", SimpleNamespace(monotonic=lambda: now))
    one = host.program()
    one.look()
    one.look()
    assert host.calls() == ["renew --non-interactive --cert-name example.test --no-directory-hooks"]
    now += 12 * 3600 + 1
    one.look()
    assert len(host.calls()) == 2


def test_a_lost_account_is_replaced(host: Host, lines: Lines) -> None:
    lineage(places.LETSENCRYPT)
    account = places.LETSENCRYPT / "accounts/pebble:14000/dir/1"
    account.mkdir(parents=True)
    (host.place / "refusal").write_text("urn:ietf:params:acme:error:accountDoesNotExist :: no\n")
    one = host.program()
    assert not one.attempt(asked=True)
    assert "the authority does not know our account any more; registering another" in lines()
    assert [call.partition(" ")[0] for call in host.calls()] == ["renew", "certonly"]
    assert not account.exists()
    assert [*places.LETSENCRYPT.glob("broken/account-*/1")]


def test_a_certificate_that_is_no_good_is_a_failure(host: Host, lines: Lines) -> None:
    lineage(host.place / "next", days=-1)
    assert not host.program().attempt()
    assert "error: no certificate: certbot got one, and yet the stored certificate has expired" in lines()[-2]


def test_what_certbot_cannot_use_is_kept_elsewhere_and_served_on(host: Host, lines: Lines) -> None:
    lineage(places.LETSENCRYPT).conf.write_text("")
    (host.place / "refusal").write_text("no\n")
    host.program().look()
    assert [line for line in lines() if line.startswith(f"what is stored is kept in {places.LETSENCRYPT}/broken/")]
    pair = served.in_use()
    assert pair and not pair.temporary


def test_another_way_to_answer_the_authority_needs_no_new_certificate(host: Host, lines: Lines) -> None:
    conf = lineage(places.LETSENCRYPT, standalone=True).conf
    assert "authenticator = standalone" in conf.read_text()
    host.program().look()
    assert "the stored certificate will be renewed by webroot from now on" in lines()
    assert "authenticator = webroot" in conf.read_text()
    assert "pref_challs" not in conf.read_text()
    assert host.calls()[0].startswith("renew ")


def test_nginx_that_serves_another_certificate_is_reloaded(host: Host, lines: Lines) -> None:
    lineage(places.LETSENCRYPT)
    one = host.program()
    one.look()
    lines()
    host.serves, one.next_ask = made_up().leaf, 0.0
    one.look()
    assert lines() == ["nginx serves another certificate than it was given: reloading it"]
    assert host.reloads == 2
    one.look()
    assert (lines(), host.reloads) == ([], 2)


def test_what_nginx_refuses_is_an_error_and_ends_nothing(
    host: Host, lines: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nginx, "reload", lambda: "no such file")
    assert host.program().install()
    assert "error: nginx refuses its configuration, it serves on with the old one: no such file" in lines()


def test_the_nginx_of_another_uid_is_left_to_the_program(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> str:
        raise PermissionError

    monkeypatch.setattr(nginx, "reload", refuse)
    assert host.program().install()


def test_a_broken_replacement_of_an_own_certificate_is_said_once_and_not_used(host: Host, lines: Lines) -> None:
    variables = own(host)
    one = host.program(**variables)
    one.look()
    good = served.in_use()
    lines()
    key = Path(variables["TLS_CERTIFICATE_KEY"])
    mended = key.read_bytes()
    for _ in range(2):
        key.write_bytes(made_up().key)
        one.look()
        one.look()
        assert lines() == [f"error: {variables['TLS_CERTIFICATE']} has a key that does not belong to it"]
        assert served.in_use() == good
        key.write_bytes(mended)
        one.look()
        assert lines() == []
    assert host.calls() == []


def test_an_own_certificate_that_breaks_under_a_temporary_one_ends_the_program(host: Host, lines: Lines) -> None:
    served.install(pairs.make_temporary(NAMES))
    variables = own(host, key=b"")
    with pytest.raises(program.Refused) as refused:
        host.program(**variables).look()
    assert (refused.value.status, str(refused.value)) == (65, "")


@pytest.mark.parametrize(
    ("names", "days", "said"),
    [
        (NAMES, 22.5, []),
        (NAMES, 20.5, ["warning: {file} expires in 20 days: replace it"]),
        (
            NAMES[:1],
            -1,
            ["warning: {file} does not cover www.example.test", "warning: {file} has expired on {until}: replace it"],
        ),
    ],
)
def test_what_its_owner_must_mend_is_warned_of_once_a_day(
    host: Host, lines: Lines, monkeypatch: pytest.MonkeyPatch, names: tuple[str, ...], days: float, said: list[str]
) -> None:
    pair = made_up(names, days=days)
    chain, key = write(pair, host.place / "own")
    one = host.program(TLS_CERTIFICATE=str(chain), TLS_CERTIFICATE_KEY=str(key))
    until = clock.rfc3339(pair.leaf.not_valid_after_utc)
    expected = [line.format(file=chain, until=until) for line in said]
    one.look()
    assert lines()[1:] == expected
    one.look()
    assert lines() == []
    tomorrow = clock.now() + DAY
    monkeypatch.setattr(clock, "now", lambda: tomorrow)
    one.look()
    assert len(lines()) == len(expected)


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
        "time.sleep(60)\n"
    )

    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, start_new_session=True)
    assert process.stdout
    child = int(process.stdout.readline())
    process.terminate()
    assert process.wait(10) == -signal.SIGKILL
    # A killed process may still be a zombie, with an empty command line.
    wait_until(lambda: not os.path.exists(f"/proc/{child}/exe"))
