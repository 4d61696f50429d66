"""Limits for each client: none by default, and requests beyond a limit get 429."""

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support.http import Answer, answer
from tests.support.stack import Stack
from tests.support.wait import wait_until

CSS = "/static/start/start.css"
PROXIES = "10.0.0.0/8 172.16.0.0/12 192.168.0.0/16"
CONNECTIONS, BURST = 3, 6
FROM_INSIDE = """
import urllib.error, urllib.request
for number in range(20):
    request = urllib.request.Request("http://127.0.0.1:8080/show", headers={"X-Forwarded-For": f"203.0.113.{number}"})
    try:
        print(urllib.request.urlopen(request).status)
    except urllib.error.HTTPError as error:
        print(error.code)
"""


@pytest.fixture(scope="module")
def limited() -> Iterator[Stack]:
    """A request a second, after a burst; each test is another client by what the proxy says."""
    limits = {
        "NGINX_LIMIT_CONNECTIONS": str(CONNECTIONS),
        "NGINX_LIMIT_REQUESTS": "1",
        "NGINX_LIMIT_REQUESTS_BURST": str(BURST),
    }
    stack = Stack.trial({**limits, "TRUSTED_PROXIES": PROXIES, "UWSGI_PROCESSES": "6"})
    try:
        yield stack.up()
        assert not stack.trouble(), stack.report()
    finally:
        stack.remove()


def get(stack: Stack, client: str, path: str = "/show", more: str = "") -> Answer:
    return answer(stack, path, headers=f"X-Forwarded-For: {client}\r\n{more}")


def assert_told_to_wait(refused: Answer) -> None:
    assert (refused.status, refused["retry-after"], refused["cache-control"]) == (429, "1", "no-store")
    assert b"<h1>Too Many Requests</h1>" in refused.body
    assert not refused.repeated()


def test_by_default_there_is_no_limit(site: Stack) -> None:
    assert site.exec("sh", "-c", "grep -hE '^ *limit_(req|conn)' /run/nginx/*.conf", check=False) == ""
    with ThreadPoolExecutor(20) as pool:
        assert {one.status for one in pool.map(lambda _: answer(site, "/show"), range(200))} == {200}


def test_requests_beyond_the_burst_are_told_to_wait_and_then_served(limited: Stack) -> None:
    began = time.monotonic()
    given = [get(limited, "203.0.113.1") for _ in range(5 * BURST)]
    passed = sum(one.status == 200 for one in given)
    assert BURST < passed <= BURST + 2 + time.monotonic() - began
    assert_told_to_wait(next(one for one in given if one.status != 200))
    # One a second passes.
    asked = (get(limited, "203.0.113.1", more="Accept: application/json\r\n") for _ in range(5))
    problem = next(one for one in asked if one.status == 429)
    assert json.loads(problem.body)["title"] == "Too Many Requests"
    # Other clients are not affected.
    assert get(limited, "203.0.113.2").status == 200
    assert wait_until(lambda: get(limited, "203.0.113.1").status == 200, 5, every=0.5)


def test_files_do_not_count(limited: Stack) -> None:
    assert {get(limited, "203.0.113.3", CSS).status for _ in range(40)} == {200}
    assert get(limited, "203.0.113.3").status == 200


def test_the_addresses_of_one_ipv6_network_are_one_client(limited: Stack) -> None:
    assert 429 in {get(limited, f"2001:db8:0:1::{number}").status for number in range(3 * BURST)}
    assert {get(limited, f"2001:db8:0:{number}::1").status for number in range(2, 20)} == {200}


def test_a_client_cannot_pass_for_many(limited: Stack) -> None:
    assert "429" in limited.exec("python3", "-c", FROM_INSIDE).split()


def test_connections_beyond_the_limit_are_told_to_wait(limited: Stack) -> None:
    with ThreadPoolExecutor() as pool:
        slow = [pool.submit(get, limited, "203.0.113.4", "/slow/6") for _ in range(CONNECTIONS)]
        wait_until(lambda: [one["status"] for one in limited.uwsgi()["workers"]].count("busy") >= CONNECTIONS, 5)
        # Files count among connections.
        assert_told_to_wait(get(limited, "203.0.113.4", CSS))
        assert get(limited, "203.0.113.5").status == 200
        assert [one.result().status for one in slow] == [200] * CONNECTIONS
    assert get(limited, "203.0.113.4", CSS).status == 200


def refused(given: Answer) -> Answer | None:
    return given if given.status == 429 else None


def test_health_is_never_limited(limited: Stack) -> None:
    said = limited.exec("sh", "-c", f"for i in $(seq {4 * BURST}); do healthcheck; done")
    assert set(said.splitlines()) == {"healthy"}
