"""When certbot may be run again: after a failure, a kill, a rate limit."""

import json
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest

from dockerable.certificates import backoff, clock
from dockerable.certificates.backoff import Attempts
from dockerable.container import places
from tests.support.certificates import wanted

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
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
def stopped_clock(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(clock, "now", lambda: NOW)
    monkeypatch.setattr(places, "LETSENCRYPT", tmp_path)


def test_failures_double_the_wait_from_a_quarter_of_an_hour_to_a_day() -> None:
    minutes = [backoff.backoff(failures) / 60 for failures in (1, 2, 3, 4, 7, 8, 1000)]
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
    assert backoff.retry_after(log) - NOW.timestamp() == seconds


@pytest.mark.parametrize("text", ["", LOG.replace("STATUS", "429").replace("VALUE", "soon"), "HTTP 429"])
def test_no_retry_after_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "letsencrypt.log").write_text(text)
    assert backoff.retry_after(tmp_path / "letsencrypt.log") == 0
    assert backoff.retry_after(tmp_path / "missing.log") == 0


def test_a_failure_is_remembered_with_the_later_of_two_times() -> None:
    request = wanted()
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
    request = wanted()
    waits = []
    for _ in range(5):
        attempts = Attempts.load(request)
        attempts.begin()
        waits.append(attempts.next - NOW.timestamp())
    assert waits == [0, 0, 900, 1800, 3600]
    assert "cut short" in Attempts.load(request).error


def test_another_wish_is_not_held_up_by_the_failure_of_the_last() -> None:
    attempts = Attempts.load(wanted())
    attempts.failed("no", 0)
    for other in ({"NGINX_SERVER_NAME": "example.test"}, {"ACME_STAGING": "on"}):
        assert Attempts.load(wanted(**other)).next == 0


@pytest.mark.parametrize("broken", ["", "[]", "{", '{"next": 1, "typo": 2}', "null", "\xff"])
def test_a_broken_file_of_attempts_is_none(tmp_path: Path, broken: str) -> None:
    (tmp_path / "attempts.json").write_text(broken, encoding="latin-1")
    assert Attempts.load(wanted()).next == 0


@pytest.mark.parametrize(("field", "value", "expected"), [("next", "soon", 0), ("next", 1e12, 7 * 86400)])
def test_no_file_of_attempts_stops_renewals_for_good(tmp_path: Path, field: str, value: Any, expected: float) -> None:
    request = wanted()
    (tmp_path / "attempts.json").write_text(json.dumps({"wanted": Attempts.want(request), field: value}))
    found = Attempts.load(request)
    assert found.next == (NOW.timestamp() + expected if expected else 0)


@pytest.mark.parametrize("field", ["last", "next", "failures", "unfinished"])
@pytest.mark.parametrize("value", ["soon", None, [], -1, -1e30, 1e30, 10**40, float("inf"), float("nan")], ids=repr)
def test_absurd_attempts_are_none_or_bounded(tmp_path: Path, field: str, value: Any) -> None:
    request = wanted()
    (tmp_path / "attempts.json").write_text(json.dumps({"wanted": Attempts.want(request), "error": "no", field: value}))
    found = Attempts.load(request)
    if field == "next" and found.error:
        assert found.next == NOW.timestamp() + 7 * 86400
    else:
        assert found == Attempts(Attempts.want(request))
    for time in (found.last, found.next):
        assert clock.rfc3339(time)
    found.begin()
    found.failed("no", 0)


@pytest.mark.parametrize("error", [5, None, ["no"]])
def test_an_error_that_is_no_text_makes_no_sense(tmp_path: Path, error: Any) -> None:
    request = wanted()
    (tmp_path / "attempts.json").write_text(
        json.dumps({"wanted": Attempts.want(request), "failures": 1, "error": error})
    )
    assert Attempts.load(request) == Attempts(Attempts.want(request))
