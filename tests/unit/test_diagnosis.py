"""The diagnosis before an order: each of its checks, without a network."""

import io
import socket
import threading
import time
import urllib.error
import urllib.request
from datetime import timedelta
from email.message import Message
from email.utils import format_datetime
from http.client import BadStatusLine
from pathlib import Path
from typing import Any

import pytest

from dockerable.certificates import clock, diagnosis
from dockerable.container import places
from tests.support.certificates import NAMES, values, wanted

PLACE = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.1", 80))]


@pytest.fixture(autouse=True)
def resolved(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each name has one address."""
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: PLACE)


class Answer(io.BytesIO):
    headers: dict[str, str | None]


def answer(monkeypatch: pytest.MonkeyPatch, given: bytes | Exception, date: str | None = None) -> list[str]:
    """Have each URL answered so. Gives the URLs that are asked for."""
    asked: list[str] = []

    def urlopen(url: str, **_: Any) -> Answer:
        asked.append(url)
        if isinstance(given, Exception):
            raise given
        made = Answer(given)
        made.headers = {"Date": date}
        return made

    monkeypatch.setattr(urllib.request, "urlopen", urlopen)
    return asked


def check_name(name: str = "a.test") -> str:
    return diagnosis.check_name(name, "token", "content")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (b"content", ""),
        (b"Welcome", "is answered by somebody else"),
        (urllib.error.HTTPError("", 404, "", Message(), None), "answers with 404: not this container?"),
        (urllib.error.URLError("refused"), "does not answer in here: refused"),
        (TimeoutError("timed out"), "does not answer in here: timed out"),
        (BadStatusLine("SSH-2.0-OpenSSH"), "does not answer in here: SSH-2.0-OpenSSH"),
    ],
)
def test_a_name_is_asked_for_what_was_put_there(
    given: bytes | Exception, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = answer(monkeypatch, given)
    assert check_name() == (f"port 80 of a.test (192.0.2.1) {said}" if said else "")
    assert asked == ["http://a.test/.well-known/acme-challenge/token"]


@pytest.mark.parametrize(("name", "host"), [("192.0.2.1", "192.0.2.1"), ("2001:db8::a", "[2001:db8::a]")])
def test_an_address_is_asked_as_well(name: str, host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = answer(monkeypatch, b"content")
    assert check_name(name) == ""
    assert asked == [f"http://{host}/.well-known/acme-challenge/token"]


def test_a_name_without_an_address_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    assert check_name() == "a.test has no address (A or AAAA record): Name or service not known"


@pytest.mark.parametrize(
    ("given", "hours", "said"),
    [
        (b"{}", 0, ""),
        (b"{}", 2, "this machine's clock differs from the authority's by 7200 s"),
        (urllib.error.URLError("refused"), 0, "https://ca.test/dir cannot be reached: refused"),
        (BadStatusLine("SSH-2.0-OpenSSH"), 0, "https://ca.test/dir cannot be reached: SSH-2.0-OpenSSH"),
    ],
)
def test_the_authority_is_asked_whether_it_is_there_and_for_the_time(
    given: bytes | Exception, hours: int, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = clock.now().replace(microsecond=0)
    monkeypatch.setattr(clock, "now", lambda: now)
    answer(monkeypatch, given, format_datetime(now + timedelta(hours=hours), usegmt=True))
    assert diagnosis.check_authority("https://ca.test/dir", "") == said


@pytest.mark.parametrize("date", [None, "soon", "Thu, 26 Nov 2026 16:00:00"])
def test_an_authority_that_does_not_tell_the_time_is_no_finding(
    date: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer(monkeypatch, b"{}", date)
    assert diagnosis.check_authority("https://ca.test/dir", "") == ""


@pytest.mark.parametrize(("plugin", "asked"), [("", list(NAMES)), ("rfc2136", [])])
def test_all_is_looked_at_at_once_and_nothing_is_left(
    plugin: str, asked: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(places, "WEBROOT", tmp_path)
    challenges = tmp_path / ".well-known/acme-challenge"
    seen: list[str] = []

    def check_name(name: str, token: str, content: str) -> str:
        assert (challenges / token).read_text() == content
        seen.append(name)
        return f"{name} is wrong" if name == NAMES[0] else ""

    monkeypatch.setattr(diagnosis, "check_name", check_name)
    monkeypatch.setattr(diagnosis, "check_authority", lambda *_: "no authority")
    found = diagnosis.diagnose(wanted(), values(ACME_DNS_PLUGIN=plugin, ACME_DNS_CREDENTIALS=plugin and "/dns"))
    assert sorted(seen) == asked
    assert found == ["example.test is wrong", "no authority"][not asked :]
    assert [*challenges.iterdir()] == []


def test_what_takes_long_is_not_waited_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(places, "WEBROOT", tmp_path)
    monkeypatch.setattr(diagnosis, "PATIENCE", 0.05)
    over = threading.Event()
    monkeypatch.setattr(diagnosis, "check_name", lambda *_: over.wait(30) and "late")
    monkeypatch.setattr(diagnosis, "check_authority", lambda *_: "no authority")
    began = time.monotonic()
    assert diagnosis.diagnose(wanted(), values()) == ["no authority"]
    assert time.monotonic() - began < 10
    over.set()
