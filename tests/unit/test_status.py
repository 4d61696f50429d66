"""The certificate's state, as JSON for other programs and as text: every key, every type, every state."""

import json
import re
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any, get_args

import pytest

from dockerable.certificates import clock, pairs, served, status
from dockerable.certificates.backoff import Attempts
from dockerable.certificates.pairs import Pair
from dockerable.certificates.request import Request
from dockerable.container import places
from tests.support.certificates import NAMES, made_up, wanted, write

STATES = ("ok", "temporary", "failing", "expired", "different")
TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"


def text(value: object, pattern: str) -> bool:
    return isinstance(value, str) and re.fullmatch(pattern, value) is not None


def texts(value: object) -> bool:
    return isinstance(value, list) and value != [] and all(text(one, ".+") for one in value)


CERTIFICATE = {
    "names": texts,
    "issuer": lambda value: text(value, ".+"),
    "serial": lambda value: text(value, "[0-9a-f]+"),
    "not_before": lambda value: text(value, TIME),
    "not_after": lambda value: text(value, TIME),
    "days_left": lambda value: type(value) is float,
}


def certificate_or_null(value: object) -> bool:
    return value is None or (isinstance(value, dict) and fits(value, CERTIFICATE))


SCHEMA = {
    "names": texts,
    "state": lambda value: value in STATES,
    "source": lambda value: value in ("acme", "own"),
    "stored": certificate_or_null,
    "served": certificate_or_null,
    "problem": lambda value: text(value, ".*"),
    "last_attempt": lambda value: value is None or text(value, TIME),
    "next_attempt": lambda value: value is None or text(value, TIME),
    "last_error": lambda value: text(value, ".*"),
}


def fits(value: dict[str, Any], schema: dict[str, Any]) -> bool:
    """Whether an object has these keys in this order and no other, each with a value of its type."""
    assert list(value) == list(schema)
    wrong = {key: value[key] for key in schema if not schema[key](value[key])}
    assert not wrong
    return True


@dataclass
class Site:
    """What a made-up site stores, serves and has tried; nginx is asked nothing."""

    request: Request
    answered: Pair | None = None

    def store(self, pair: Pair) -> Pair:
        write(pair, places.LETSENCRYPT / "live" / self.request.lineage)
        return pair

    def json(self) -> dict[str, Any]:
        """What programs read, which has been found to fit the schema."""
        found = json.loads(status.find(self.request).json())
        assert fits(found, SCHEMA)
        return found

    def state(self) -> str:
        return str(self.json()["state"])


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    monkeypatch.setattr(places, "LETSENCRYPT", tmp_path)
    monkeypatch.setattr(places, "CERTIFICATE_STATUS", tmp_path / "certificate.json")
    made = Site(wanted())
    monkeypatch.setattr(served, "ask_nginx", lambda _: made.answered and made.answered.leaf)
    return made


def test_the_states_are_those_that_are_told_of() -> None:
    assert get_args(status.State) == STATES
    assert status.__doc__
    assert all(f'"{state}"' in status.__doc__ for state in STATES)
    assert all(re.search(rf"\b{key}\b", status.__doc__) for key in [*SCHEMA, *CERTIFICATE])


def test_what_is_served_as_it_is_stored_is_ok(site: Site) -> None:
    site.answered = site.store(made_up(days=60))
    found = site.json()
    assert (found["state"], found["source"], found["problem"], found["last_error"]) == ("ok", "acme", "", "")
    assert found["stored"] == found["served"]
    assert found["stored"]["names"] == found["names"] == list(NAMES)
    assert found["stored"]["serial"] == f"{site.answered.leaf.serial_number:x}"
    assert found["stored"]["issuer"] == "CN=an authority"
    assert 59.9 < found["stored"]["days_left"] <= 60


def test_before_the_first_certificate_it_is_temporary(site: Site) -> None:
    site.answered = pairs.make_temporary(NAMES)
    found = site.json()
    assert (found["state"], found["stored"], found["problem"]) == ("temporary", None, "does not exist yet")
    assert found["served"]["issuer"] == "CN=temporary certificate"
    assert (found["last_attempt"], found["next_attempt"]) == (None, None)


def test_a_failed_attempt_is_told_with_its_reason_and_the_next_time(site: Site) -> None:
    site.answered = site.store(made_up())
    attempts = Attempts.load(site.request)
    attempts.begin()
    attempts.failed("too many certificates", 0)
    found = site.json()
    assert (found["state"], found["last_error"]) == ("failing", "too many certificates")
    assert found["last_attempt"] == clock.rfc3339(attempts.last)
    assert found["next_attempt"] == clock.rfc3339(attempts.next)


def test_one_that_lacks_a_name_is_a_problem(site: Site) -> None:
    site.answered = site.store(made_up(NAMES[:1]))
    found = site.json()
    assert (found["state"], found["problem"]) == ("failing", f"does not cover {NAMES[1]}")
    site.answered = made_up(NAMES[:1])
    found = site.json()
    assert (found["state"], found["problem"]) == ("different", f"does not cover {NAMES[1]}")


def test_an_expired_one_is_expired_whatever_is_served(site: Site) -> None:
    stored = site.store(made_up(days=-1))
    for site.answered in (stored, made_up(), None):
        assert site.state() == "expired"
    assert site.json()["stored"]["days_left"] < 0


def test_one_that_nginx_does_not_serve_is_different(site: Site) -> None:
    site.store(made_up())
    site.answered = made_up()
    found = site.json()
    assert found["state"] == "different"
    assert found["stored"]["serial"] != found["served"]["serial"]


def test_without_an_answer_of_nginx_nothing_is_served(site: Site) -> None:
    site.store(made_up())
    found = site.json()
    assert (found["state"], found["served"]) == ("ok", None)


def test_an_own_certificate_that_is_broken_is_failing_with_the_problem(site: Site, tmp_path: Path) -> None:
    site.answered = made_up()
    chain, key = write(site.answered, tmp_path / "own")
    site.request = replace(site.request, own=(chain, key))
    found = site.json()
    assert (found["source"], found["state"]) == ("own", "ok")
    key.write_bytes(made_up().key)
    found = site.json()
    assert (found["state"], found["stored"]) == ("failing", None)
    assert found["problem"] == "has a key that does not belong to it"
    assert found["served"]


def test_addresses_are_names_too(site: Site) -> None:
    site.answered = pairs.make_temporary(["192.0.2.1", "2001:db8::1", "example.test"])
    assert site.json()["served"]["names"] == ["example.test", "192.0.2.1", "2001:db8::1"]


def test_it_is_published_whole_under_its_name_alone(site: Site, tmp_path: Path) -> None:
    found = status.find(site.request)
    status.write(found)
    assert (tmp_path / "certificate.json").read_text() == f"{found.json()}\n"
    assert [file.name for file in tmp_path.iterdir()] == ["certificate.json"]


def test_the_text_for_people(monkeypatch: pytest.MonkeyPatch) -> None:
    leaf = made_up(days=9.96).leaf
    monkeypatch.setattr(clock, "now", lambda: leaf.not_valid_after_utc - timedelta(days=9.96))
    one = status.Certificate.of(leaf)
    found = status.Status(NAMES, "ok", "acme", one, None, "", None, None, "")
    until = clock.rfc3339(leaf.not_valid_after_utc)
    assert found.text().splitlines() == [
        "names         example.test www.example.test",
        "state         ok",
        f"stored        example.test www.example.test, by CN=an authority, serial {leaf.serial_number:x}, "
        f"until {until} (10.0 days left)",
        "served        none",
        "last attempt  never",
        "next attempt  when it is time to renew",
    ]
    worse = replace(found, problem="does not parse", last_error="no", last_attempt=until, next_attempt=until)
    assert worse.text().splitlines()[4:] == [
        f"last attempt  {until}",
        f"next attempt  {until}",
        "problem       the stored certificate does not parse",
        "last error    no",
    ]
