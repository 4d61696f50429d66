"""X-Forwarded-* headers: by default ignored, with TRUSTED_PROXIES accepted from those addresses only."""

import ipaddress
import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.docker import inspect
from tests.support.http import Browser, answer
from tests.support.stack import Stack

NAME = "www.example.com"
FORGED = {
    "X-Forwarded-For": "6.6.6.6",
    "X-Forwarded-Proto": "https",
    "X-Forwarded-Host": "evil.test",
    # Colons are what the maps of nginx put between the values that they compare.
    "X-Forwarded-Port": "x:666:",
    "X-Forwarded-Scheme": "https",
    "X-Forwarded-Ssl": "on",
    "X-Forwarded-Prefix": "/evil",
    "X-Forwarded-Server": "evil.test",
    "X-Real-IP": "6.6.6.6",
    "Forwarded": "for=6.6.6.6;host=evil.test;proto=https",
    "Proxy": "http://evil.test",
    "X-Request-ID": "as-the-client-says",
    # An underscore is a hyphen to WSGI.
    "X_Forwarded_For": "6.6.6.6",
    "X_Forwarded_Proto": "https",
}
# What is logged of a peer that is not trusted.
WARNED = "warning: X-Forwarded-Proto of .* is ignored"
# The other side of the container's own loopback: a client that is nobody's proxy.
FROM_INSIDE = """
import json, sys, urllib.request
request = urllib.request.Request("http://127.0.0.1:8080/show", headers=json.loads(sys.argv[1]))
print(urllib.request.urlopen(request).read().decode())
"""


@pytest.fixture(scope="module")
def site_stack() -> Stack:
    stack = Stack.trial()
    stack.allowed = [r"django\.security\.csrf.*: Forbidden", WARNED]
    return stack


@pytest.fixture(scope="module")
def gateway(site: Stack) -> str:
    """The address that nginx sees the tests' requests come from."""
    return str(seen(site, host="localhost")["meta"]["REMOTE_ADDR"])


@pytest.fixture(scope="module")
def balanced(site: Stack, gateway: str) -> Iterator[Stack]:
    """A site that trusts the container network that we come through, and one more."""
    length = inspect(site.name)["NetworkSettings"]["IPPrefixLen"]
    network = ipaddress.ip_network(f"{gateway}/{length}", strict=False)
    stack = Stack.trial({"NGINX_SERVER_NAME": NAME, "TRUSTED_PROXIES": f"{network} 10.1.0.0/16"})
    stack.allowed = [r"django\.security\.csrf.*: Forbidden", WARNED]
    try:
        yield stack.up()
        assert not stack.trouble(), stack.report()
    finally:
        stack.remove()


def seen(stack: Stack, host: str = NAME, **headers: str) -> dict[str, Any]:
    """What Django sees of a request with these headers; _ stands for -."""
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    return json.loads(answer(stack, "/show", host=host, headers=lines).body)


def assert_nothing_forged(request: dict[str, Any], address: str, host: str) -> None:
    assert (request["host"], request["port"], request["scheme"]) == (host, "80", "http")
    assert request["url"] == f"http://{host}/show"
    meta = {
        name: value
        for name, value in request["meta"].items()
        if name.startswith(("HTTP_X_", "HTTP_PROXY", "HTTP_FORWARDED", "REMOTE_ADDR", "HTTPS", "SCRIPT_NAME"))
    }
    # nginx makes one for each request.
    assert re.fullmatch(r"[0-9a-f]{32}", meta.pop("HTTP_X_REQUEST_ID"))
    assert meta == {
        "REMOTE_ADDR": address,
        "HTTP_X_REAL_IP": address,
        "HTTP_X_FORWARDED_FOR": address,
        "HTTP_X_FORWARDED_PROTO": "http",
        "HTTP_X_FORWARDED_SCHEME": "http",
        "HTTP_X_FORWARDED_HOST": host,
        "HTTP_X_FORWARDED_PORT": "80",
        "SCRIPT_NAME": "",
    }


def test_nobodys_word_is_taken_by_default(site: Stack, gateway: str) -> None:
    lines = "".join(f"{name}: {value}\r\n" for name, value in FORGED.items())
    # Twice, since a second line of a header must not slip past what replaces the first.
    request = json.loads(answer(site, "/show", headers=lines + lines).body)
    assert_nothing_forged(request, gateway, "localhost")


def test_a_neighbour_that_is_not_trusted_is_not_believed(balanced: Stack) -> None:
    headers = json.dumps({**FORGED, "Host": NAME})
    request = json.loads(balanced.exec("python3", "-c", FROM_INSIDE, headers))
    assert_nothing_forged(request, "127.0.0.1", NAME)
    # A trusted proxy that sends the same is not warned of.
    seen(balanced, X_Forwarded_Proto="https")
    balanced.says("TRUSTED_PROXIES=127.0.0.1")
    assert len(re.findall(WARNED, balanced.logs())) == 1


def test_a_trusted_proxy_may_say_nothing(balanced: Stack, gateway: str) -> None:
    assert_nothing_forged(seen(balanced), gateway, NAME)


def test_a_trusted_proxys_client_and_scheme_reach_django(balanced: Stack) -> None:
    request = seen(balanced, X_Forwarded_For="203.0.113.7", X_Forwarded_Proto="https")
    assert (request["scheme"], request["secure"], request["port"]) == ("https", True, "443")
    assert (request["host"], request["url"]) == (NAME, f"https://{NAME}/show")
    meta = request["meta"]
    assert meta["REMOTE_ADDR"] == meta["HTTP_X_FORWARDED_FOR"] == meta["HTTP_X_REAL_IP"] == "203.0.113.7"
    assert (meta["HTTPS"], meta["wsgi.url_scheme"], meta["REQUEST_SCHEME"]) == ("on", "https", "https")
    assert (meta["SERVER_PORT"], meta["HTTP_X_FORWARDED_PORT"]) == ("443", "443")
    assert (meta["HTTP_X_FORWARDED_PROTO"], meta["HTTP_X_FORWARDED_SSL"]) == ("https", "on")


def test_a_trusted_proxys_host_header_counts_and_no_other(balanced: Stack) -> None:
    request = seen(balanced, X_Forwarded_Host="evil.test", Forwarded="host=evil.test", X_Forwarded_Prefix="/evil")
    assert request["url"] == f"http://{NAME}/show"
    assert request["meta"]["HTTP_X_FORWARDED_HOST"] == NAME
    assert not {"HTTP_FORWARDED", "HTTP_X_FORWARDED_PREFIX", "HTTP_PROXY"} & set(request["meta"])


@pytest.mark.parametrize(
    ("said", "client"),
    [
        ("203.0.113.7", "203.0.113.7"),
        ("203.0.113.7, 10.1.2.3", "203.0.113.7"),
        ("203.0.113.7,10.1.2.3,10.1.9.9", "203.0.113.7"),
        # The client wrote the first; the last that no proxy of ours wrote is the client.
        ("6.6.6.6, 203.0.113.7", "203.0.113.7"),
        ("6.6.6.6, 203.0.113.7, 10.1.2.3", "203.0.113.7"),
        ("10.1.6.6, 203.0.113.7, 10.1.2.3", "203.0.113.7"),
        ("6.6.6.6, 10.2.0.1, 10.1.2.3", "10.2.0.1"),
        ("unknown, 203.0.113.7", "203.0.113.7"),
        ("203.0.113.7:50123", "203.0.113.7"),
        ("2001:db8::7", "2001:db8::7"),
        ("[2001:db8::7]:50123", "2001:db8::7"),
    ],
)
def test_the_client_is_who_the_outermost_trusted_proxy_saw(balanced: Stack, said: str, client: str) -> None:
    meta = seen(balanced, X_Forwarded_For=said)["meta"]
    assert meta["REMOTE_ADDR"] == meta["HTTP_X_FORWARDED_FOR"] == client


@pytest.mark.parametrize("said", ["evil", "'; drop table", "unknown", ", ,", "6.6.6.6.6"])
def test_an_address_that_is_none_leaves_the_proxys_own(balanced: Stack, gateway: str, said: str) -> None:
    assert seen(balanced, X_Forwarded_For=said)["meta"]["REMOTE_ADDR"] == gateway


@pytest.mark.parametrize(
    ("said", "scheme"),
    [
        ("https", "https"),
        ("HTTPS", "https"),
        ("https,http", "https"),
        ("https, http", "https"),
        ("http,https", "http"),
        ("http", "http"),
        ("", "http"),
        ("httpsx", "http"),
        ("wss", "http"),
        ("evil,https", "http"),
    ],
)
def test_the_first_scheme_of_a_list_counts(balanced: Stack, said: str, scheme: str) -> None:
    request = seen(balanced, X_Forwarded_Proto=said)
    assert request["scheme"] == request["meta"]["HTTP_X_FORWARDED_PROTO"] == scheme
    assert request["port"] == {"http": "80", "https": "443"}[scheme]


@pytest.mark.parametrize(
    ("said", "host", "port"),
    [
        ("443", NAME, "443"),
        ("8443", NAME, "8443"),
        ("8443", f"{NAME}:8443", "8443"),
        ("8443,80", NAME, "8443"),
        ("8443, 80", NAME, "8443"),
        ("", f"{NAME}:8443", "8443"),
        ("evil", NAME, "443"),
        ("evil:1:2", NAME, "443"),
        ("1234567", f"{NAME}:8443", "8443"),
        ("99999", f"{NAME}:8443", "8443"),
        ("0", NAME, "443"),
    ],
)
def test_the_port_is_the_proxys_word_then_the_host_headers(balanced: Stack, said: str, host: str, port: str) -> None:
    request = seen(balanced, host=host, X_Forwarded_Proto="https", X_Forwarded_Port=said)
    assert request["port"] == request["meta"]["HTTP_X_FORWARDED_PORT"] == port
    assert request["url"] == f"https://{host}/show"


@pytest.mark.parametrize(
    ("origin", "port"),
    [
        (f"https://{NAME}", {}),
        (f"https://{NAME}", {"X-Forwarded-Port": "443"}),
        (f"https://{NAME}:8443", {}),
        (f"https://{NAME}:8443", {"X-Forwarded-Port": "8443"}),
    ],
)
def test_a_form_passes_a_tls_balancer(balanced: Stack, origin: str, port: dict[str, str]) -> None:
    browser = Browser(balanced, origin, {"X-Forwarded-Proto": "https", "X-Forwarded-For": "203.0.113.7", **port})
    fields = {"username": "nobody", "password": "wrong"}
    assert browser.submit("/admin/login/", fields).status_code == 200
    assert browser.submit("/admin/login/", fields, origin=f"http://{NAME}").status_code == 403


def test_a_form_over_https_is_refused_where_the_scheme_is_not_believed(site: Stack) -> None:
    browser = Browser(site, "https://localhost", {"X-Forwarded-Proto": "https"})
    assert browser.submit("/admin/login/", {"username": "nobody", "password": "wrong"}).status_code == 403


def test_the_variable_that_such_a_proxy_lacks_is_logged_once(site: Stack, gateway: str) -> None:
    for _ in range(8):
        assert "DOCKERABLE_UNKNOWN_PROXY" not in seen(site, host="localhost", X_Forwarded_Proto="https")["meta"]
    assert site.says(f"TRUSTED_PROXIES={gateway}")
    assert len(re.findall(WARNED, site.logs())) == 1
