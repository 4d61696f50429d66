"""When certbot is run, what with, and what is made of what it says: the parts of renewal.py by themselves."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest

from dockerable.certificates import certbot as renewal
from dockerable.certificates import pairs as certificates
from dockerable.certificates.certbot import Attempts
from dockerable.certificates.pairs import Request
from dockerable.container import variables
from dockerable.container.report import Report

DAY = timedelta(days=1)
NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
# As certbot 5.8 prints it.
REJECTED = """\
Saving debug log to /var/log/letsencrypt/letsencrypt.log
Account registered.
Requesting a certificate for example.test and missing.test

Certbot failed to authenticate some domains (authenticator: webroot). The Certificate Authority reported these problems:
  Identifier: missing.test
  Type:   connection
  Detail: Could not resolve missing.test

Hint: The Certificate Authority failed to download the temporary challenge files created by Certbot.

Some challenges have failed.
Ask for help or search for solutions at https://community.letsencrypt.org.
"""
LOG = """\
2026-11-21 10:20:43,310:DEBUG:acme.client:Received response:
HTTP 200
Retry-After: 5

{}
2026-11-21 10:20:44,310:DEBUG:acme.client:Received response:
HTTP STATUS
Content-Type: application/problem+json
Retry-After: VALUE
Replay-Nonce: 7f

{}
2026-11-21 10:20:44,320:DEBUG:acme.client:Received response:
HTTP 200
Retry-After: 6

{}
"""


@pytest.fixture(autouse=True)
def stopped_clock(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.setattr(renewal, "now", lambda: NOW)
    monkeypatch.setattr(renewal, "LETSENCRYPT", tmp_path)
    yield


def values(**given: str) -> dict[str, str]:
    """The checked variables of a site over HTTPS."""
    report = Report()
    site = {"NGINX_SERVER_NAME": "example.test www.example.test", "USE_SSL": "on", "EMAIL_ADDRESS": "a@example.test"}
    settings = {"DJANGO_SETTINGS_MODULE": "project.settings.local.settings"}
    variables.check({**settings, **site, **given}, report)
    assert not report.errors
    return report.values


def command(**given: str) -> str:
    checked = values(**given)
    return " ".join(renewal.issue_command(Request.of(checked), checked))


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
    assert renewal.check_interval(lifetime) == interval.total_seconds()


def test_failures_double_the_wait_from_a_quarter_of_an_hour_to_a_day() -> None:
    minutes = [renewal.backoff(failures) / 60 for failures in (1, 2, 3, 4, 7, 8, 1000)]
    assert minutes == [15, 30, 60, 120, 960, 1440, 1440]


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("7200", 7200),
        (format_datetime(NOW + timedelta(hours=3), usegmt=True), 3 * 3600),
        ("999999999999", 7 * 86400),
        ("Fri, 31 Dec 9999 23:59:59 GMT", 7 * 86400),
    ],
)
def test_retry_after_is_read_from_the_refusal_alone(tmp_path: Path, status: int, value: str, seconds: float) -> None:
    log = tmp_path / "letsencrypt.log"
    log.write_text(LOG.replace("STATUS", str(status)).replace("VALUE", value))
    assert renewal.retry_after(log) - NOW.timestamp() == seconds


@pytest.mark.parametrize("text", ["", LOG.replace("STATUS", "429").replace("VALUE", "soon"), "HTTP 429"])
def test_no_retry_after_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "letsencrypt.log").write_text(text)
    assert renewal.retry_after(tmp_path / "letsencrypt.log") == 0
    assert renewal.retry_after(tmp_path / "missing.log") == 0


def test_the_reason_is_what_the_authority_said() -> None:
    assert renewal.reason(REJECTED) == (
        "Identifier: missing.test; Type: connection; Detail: Could not resolve missing.test"
    )
    assert renewal.reason("Saving debug log to x\n\n") == "certbot gave no reason"
    assert len(renewal.reason("x" * 10_000)) == 500


@pytest.mark.parametrize(
    "text",
    [
        "urn:ietf:params:acme:error:accountDoesNotExist :: The request specified an account that does not exist",
        'Account "https://ca/my-account/1" not found',
        "Account at /etc/letsencrypt/accounts/ca/dir/5f does not exist",
    ],
)
def test_a_lost_account_is_recognised(text: str) -> None:
    assert renewal.account_is_lost(text)
    assert not renewal.account_is_lost(REJECTED)


def test_a_failure_is_remembered_with_the_later_of_two_times() -> None:
    request = Request.of(values())
    attempts = Attempts.load(request)
    attempts.begin()
    attempts.failed("no", 0)
    assert Attempts.load(request).next == NOW.timestamp() + 900
    attempts.failed("no", NOW.timestamp() + 7200)
    kept = Attempts.load(request)
    assert (kept.next, kept.failures, kept.unfinished, kept.error) == (NOW.timestamp() + 7200, 2, 0, "no")
    attempts.succeeded()
    assert Attempts.load(request) == Attempts(Attempts.want(request), last=NOW.timestamp())


def test_only_two_cut_short_attempts_are_repeated_at_once() -> None:
    request = Request.of(values())
    waits = []
    for _ in range(5):
        attempts = Attempts.load(request)
        attempts.begin()
        waits.append(attempts.next - NOW.timestamp())
    assert waits == [0, 0, 900, 1800, 3600]
    assert "cut short" in Attempts.load(request).error


def test_another_wish_is_not_held_up_by_the_failure_of_the_last() -> None:
    attempts = Attempts.load(Request.of(values()))
    attempts.failed("no", 0)
    for other in ({"NGINX_SERVER_NAME": "example.test"}, {"ACME_STAGING": "on"}):
        assert Attempts.load(Request.of(values(**other))).next == 0


@pytest.mark.parametrize("broken", ["", "[]", "{", '{"next": 1, "typo": 2}', "null", "\xff"])
def test_a_broken_file_of_attempts_is_none(tmp_path: Path, broken: str) -> None:
    (tmp_path / "attempts.json").write_text(broken, encoding="latin-1")
    assert Attempts.load(Request.of(values())).next == 0


@pytest.mark.parametrize(("field", "value", "expected"), [("next", "soon", 0), ("next", 1e12, 7 * 86400)])
def test_no_file_of_attempts_stops_renewals_for_good(tmp_path: Path, field: str, value: Any, expected: float) -> None:
    request = Request.of(values())
    (tmp_path / "attempts.json").write_text(json.dumps({"wanted": Attempts.want(request), field: value}))
    found = Attempts.load(request)
    assert found.next == (NOW.timestamp() + expected if expected else 0)


def test_certbot_is_told_names_account_and_webroot() -> None:
    told = command()
    assert "--cert-name example.test --server https://acme-v02.api.letsencrypt.org/directory" in told
    assert "--authenticator webroot --webroot-path /var/www/html" in told
    assert "--domain example.test --domain www.example.test" in told
    assert "--email a@example.test" in told
    assert "--register-unsafely-without-email" in command(EMAIL_ADDRESS="")


def test_profile_addresses_and_dns_are_passed_on() -> None:
    address = command(NGINX_SERVER_NAME="192.0.2.1 [2001:db8::1]", ACME_PROFILE="shortlived")
    assert "--required-profile shortlived" in address
    assert "--ip-address 192.0.2.1 --ip-address 2001:db8::1" in address
    dns = command(
        NGINX_SERVER_NAME="*.example.test",
        ACME_DNS_PLUGIN="cloudflare",
        ACME_DNS_CREDENTIALS="/run/secrets/dns",
        ACME_DNS_PROPAGATION_SECONDS="20",
    )
    assert "--cert-name example.test" in dns
    assert "--authenticator dns-cloudflare --dns-cloudflare-credentials /run/secrets/dns" in dns
    assert "--dns-cloudflare-propagation-seconds 20" in dns
    assert "webroot" not in dns


@pytest.mark.parametrize(
    ("given", "server"),
    [
        ({}, certificates.LETS_ENCRYPT),
        ({"ACME_STAGING": "on"}, certificates.LETS_ENCRYPT_STAGING),
        ({"ACME_STAGING": "on", "ACME_SERVER": "https://ca.test/dir"}, "https://ca.test/dir"),
    ],
)
def test_the_directory_is_the_one_that_was_chosen(given: dict[str, str], server: str) -> None:
    assert Request.of(values(**given)).server == server
    assert f"--server {server} " in command(**given)


def test_a_renewal_is_forced_only_where_it_is_asked_for() -> None:
    request = Request.of(values())
    assert "--force-renewal" not in renewal.renew_command(request)
    assert renewal.renew_command(request, now=True)[-1] == "--force-renewal"
