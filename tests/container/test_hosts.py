"""The name and port of a request: nginx and Django agree on them, and forms work on any port."""

import json
import re

import pytest

from tests.support.http import Browser, answer, ask, make_superuser
from tests.support.stack import Stack


@pytest.fixture(scope="module")
def site_stack() -> Stack:
    stack = Stack.trial()
    stack.allowed = [r"django\.security\.csrf.*: Forbidden"]
    return stack


@pytest.mark.parametrize(
    "host",
    ["evil.test", "evil.test:80", "www.localhost", "localhost.evil.test", "127.0.0.2", "[::2]", "evil@localhost", "_"],
)
def test_a_name_that_is_not_ours_gets_no_answer(site: Stack, host: str) -> None:
    assert ask(site, "/show", host=host) is None
    assert ask(site, "/static/start/start.css", host=host) is None


def test_a_request_without_any_name_gets_no_answer(site: Stack) -> None:
    assert ask(site, "/show", host=None, version="1.0") is None


@pytest.mark.parametrize("host", [None, "", "a b", "localhost\r\nHost: localhost", "localhost\r\nHost: evil.test"])
def test_a_name_missing_doubled_or_broken_is_a_bad_request(site: Stack, host: str | None) -> None:
    assert answer(site, "/show", host=host).status == 400


@pytest.mark.parametrize(
    ("host", "seen"),
    [
        ("localhost", "localhost"),
        ("LocalHost", "localhost"),
        ("localhost.", "localhost"),
        ("localhost:8000", "localhost:8000"),
        ("LOCALHOST:8000", "localhost:8000"),
        ("localhost.:8000", "localhost:8000"),
        ("127.0.0.1", "127.0.0.1"),
        ("127.0.0.1:8000", "127.0.0.1:8000"),
        ("[::1]", "[::1]"),
        ("[::1]:8000", "[::1]:8000"),
        # What is no port is no part of the name either.
        ("localhost:", "localhost"),
        ("localhost:evil", "localhost"),
        ("localhost:1:2", "localhost"),
        ("localhost:123456", "localhost"),
        ("localhost:99999", "localhost"),
        ("localhost:65536", "localhost"),
        ("localhost:0", "localhost"),
        ("localhost:65535", "localhost:65535"),
        ("localhost:59999", "localhost:59999"),
        ("localhost:1", "localhost:1"),
        ("localhost:008000", "localhost:8000"),
    ],
)
def test_django_sees_the_name_and_port_that_the_client_named(site: Stack, host: str, seen: str) -> None:
    request = json.loads(answer(site, "/show", host=host).body)
    assert request["host"] == seen
    assert request["port"] == (seen.rpartition(":")[2] if re.search(r":\d+$", seen) else "80")
    assert request["url"] == f"http://{seen}/show"
    assert (request["scheme"], request["secure"]) == ("http", False)


@pytest.mark.parametrize(
    ("target", "host", "seen"),
    [
        ("http://localhost/show", "evil.test", "localhost"),
        ("http://localhost/show", "evil.test:99", "localhost"),
        ("http://localhost/show", "localhost.evil.test:99", "localhost"),
        ("http://localhost/show", "127.0.0.1:99", "localhost"),
        ("http://LOCALHOST/show", "localhost:99", "localhost:99"),
        ("http://127.0.0.1/show", "localhost", "127.0.0.1"),
        # Its scheme says nothing of the connection.
        ("https://localhost/show", "localhost", "localhost"),
    ],
)
def test_the_request_lines_name_decides_for_nginx_and_django(site: Stack, target: str, host: str, seen: str) -> None:
    request = json.loads(answer(site, target, host=host).body)
    assert request["host"] == seen
    assert request["url"] == f"http://{seen}/show"


@pytest.mark.parametrize("host", ["localhost", "localhost:99", "evil.test"])
def test_a_strange_name_in_the_request_line_gets_no_answer(site: Stack, host: str) -> None:
    assert ask(site, "http://evil.test/show", host=host) is None


def test_the_admin_takes_a_browsers_login_on_the_published_port(site: Stack) -> None:
    make_superuser(site)
    browser = Browser(site)
    assert browser.get("/admin/").headers["location"] == "/admin/login/?next=/admin/"
    entered = browser.log_in()
    assert (entered.status_code, entered.headers["location"]) == (302, "/admin/")
    index = browser.get("/admin/")
    assert index.status_code == 200
    assert "Site administration" in index.text


@pytest.mark.parametrize("origin", ["http://localhost", "http://localhost:8000", "http://[::1]:8443"])
def test_a_form_is_taken_on_any_port(site: Stack, origin: str) -> None:
    browser = Browser(site, origin)
    assert browser.submit("/admin/login/", {"username": "nobody", "password": "wrong"}).status_code == 200


@pytest.mark.parametrize(
    "foreign", ["http://evil.test", "http://127.0.0.1", "http://127.0.0.1:1", "https://127.0.0.1", "null"]
)
def test_a_form_from_another_origin_is_refused(site: Stack, foreign: str) -> None:
    sent = Browser(site).submit("/admin/login/", {"username": "nobody", "password": "wrong"}, origin=foreign)
    assert sent.status_code == 403
