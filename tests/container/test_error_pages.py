"""nginx's own error answers: a page, or problem details, with the request id."""

import contextlib
import json
import re
import time
from collections.abc import Iterator
from http import HTTPStatus

import pytest

from tests.support.docker import docker
from tests.support.http import Answer, answer, exchange
from tests.support.stack import WORKERS_DIE, Stack

CSS = "/static/start/start.css"
# All addresses that an engine gives its networks: so the tests count as the proxy, the container's loopback does not.
PROXIES = "10.0.0.0/8 172.16.0.0/12 192.168.0.0/16"
LONG = "v" * 9000
JSON = "Accept: application/json\r\n"
MADE = r"[0-9a-f]{32}"
# Reason phrases of RFC 9110, for Python versions with older ones.
NEW_WORDS = {413: "Content Too Large", 414: "URI Too Long"}
HARAKIRI = 3  # seconds
# Seconds after which nginx gives up: ten that a request may wait, harakiri, and ten more.
PATIENCE = 10 + HARAKIRI + 10
FROM_INSIDE = """
import sys, urllib.request
request = urllib.request.Request("http://127.0.0.1:8080/show", headers={"X-Request-ID": sys.argv[1]})
print(urllib.request.urlopen(request).headers["X-Request-ID"])
"""
# Target, method and header lines of what nginx refuses.
REFUSED = [
    (400, "/show", "GET", "Host: other\r\n"),
    (403, "/media/closed", "GET", ""),
    (404, "/static/none", "GET", ""),
    (404, "/static/none", "POST", "Content-Length: 3\r\n\r\nabc"),
    (404, "/media/none", "GET", ""),
    (405, CSS, "POST", "Content-Length: 0\r\n"),
    (405, "/show", "TRACE", ""),
    (412, CSS, "GET", 'If-Match: "other"\r\n'),
    (413, "/body", "POST", f"Content-Length: 60000\r\n\r\n{'x' * 60000}"),
    (431, "/show", "GET", f"X-A: {LONG}\r\n"),
    (431, "/show", "GET", f"Cookie: {LONG}\r\n"),
    (500, "/body", "POST", f"Content-Length: 40000\r\n\r\n{'x' * 40000}"),
    (501, "/body", "POST", "Transfer-Encoding: gzip, chunked\r\n"),
    (502, "/die", "GET", ""),
]


@pytest.fixture(scope="module")
def site_stack() -> Stack:
    stack = Stack.trial(
        {
            "UWSGI_HARAKIRI": str(HARAKIRI),
            "TRUSTED_PROXIES": PROXIES,
            "NGINX_CLIENT_MAX_BODY_SIZE": "50k",
        }
    )
    stack.allowed = [
        WORKERS_DIE,
        r"django\.request.*: |csrf.*: Forbidden",
        r"upstream prematurely closed connection .*GET /die",
        # A health check may be running at that moment.
        r"upstream prematurely closed connection .*GET /dockerable/live|recv\(\) failed .*GET /dockerable/live",
        r"upstream timed out .*(GET|POST) /(show|dockerable/live)",
        # The watchdog's questions to a uWSGI that hangs.
        r"write\(\): Broken pipe \[core/stats\.c",
        r"too large body|/data/media/closed.* failed \(13|/data/tmp/nginx/body/.* failed \(13",
    ]
    return stack


@pytest.fixture
def closed(site: Stack) -> Iterator[None]:
    """A file and a folder that nginx may not open."""
    site.exec("sh", "-c", "touch /data/media/closed && chmod 0 /data/media/closed /data/tmp/nginx/body")
    yield
    site.exec("sh", "-c", "chmod 0770 /data/tmp/nginx/body && rm -f /data/media/closed")


def title(status: int) -> str:
    return NEW_WORDS.get(status, HTTPStatus(status).phrase)


def assert_page(page: Answer, status: int, heading: str = "") -> None:
    heading = heading or title(status)
    text = page.body.decode()
    assert (page.status, page["content-type"], page["content-length"]) == (status, "text/html", str(len(page.body)))
    assert f"<title>{heading}</title>" in text
    assert f"<h1>{heading}</h1>" in text
    assert f"<small>{status}, request <code>{page['x-request-id']}</code></small>" in text
    assert ('http-equiv="refresh"' in text) == ("Starting" in text) == bool(page["retry-after"])
    assert_harmless(page)


def assert_problem(problem: Answer, status: int) -> None:
    said = json.loads(problem.body)
    assert (problem.status, problem["content-type"]) == (status, "application/problem+json")
    assert said.pop("detail").endswith(".")
    wanted = {"type": "about:blank", "title": title(status), "status": status}
    assert said == {**wanted, "request_id": problem["x-request-id"]}
    assert_harmless(problem)


def assert_harmless(given: Answer) -> None:
    assert re.fullmatch(MADE, given["x-request-id"])
    assert not given.repeated()
    assert (given["server"], given["x-content-type-options"], given["x-frame-options"]) == ("nginx", "nosniff", "DENY")
    assert given["cache-control"] == ("no-store" if given.status >= 500 else "")
    assert b"nginx" not in given.body


@pytest.mark.usefixtures("closed")
@pytest.mark.parametrize(("status", "target", "method", "lines"), REFUSED, ids=lambda value: str(value)[:20])
def test_each_refusal_is_a_page_or_problem_details(
    site: Stack, status: int, target: str, method: str, lines: str
) -> None:
    page = answer(site, target, method=method, headers=f"Connection: close\r\n{lines}")
    assert_page(page, status)
    assert page["vary"] == "Accept"
    assert_problem(answer(site, target, method=method, headers=f"Connection: close\r\n{JSON}{lines}"), status)


@pytest.mark.parametrize(
    ("status", "line"),
    [
        (400, "get /show HTTP/1.1"),
        (400, "GET /%00 HTTP/1.1"),
        (400, "CONNECT localhost:80 HTTP/1.1"),
        (400, "\x16\x03\x01\x02"),
        (414, f"GET /{LONG} HTTP/1.1"),
        (505, "GET /show HTTP/9.9"),
    ],
    ids=lambda value: str(value)[:12],
)
def test_a_request_line_that_cannot_be_read_gets_the_page(site: Stack, status: int, line: str) -> None:
    page = exchange(site, f"{line}\r\n{JSON}\r\n".encode("latin-1"))
    assert page is not None
    assert_page(page, status)


def test_what_is_wrong_before_the_name_is_known_gets_the_page(site: Stack) -> None:
    assert_page(answer(site, "/show", host=None), 400)
    assert_page(answer(site, "/show", host=None, headers=f"X-A: {LONG}\r\nHost: evil.test\r\n"), 431)


def test_a_range_that_a_file_does_not_have_gets_the_page(site: Stack) -> None:
    page = answer(site, CSS, headers="Range: bytes=999999-\r\n")
    assert page["content-range"].startswith("bytes */")
    # The headers are those of the file.
    assert (page.status, page.repeated()) == (416, [])
    assert f"<small>416, request <code>{page['x-request-id']}</code></small>".encode() in page.body


def test_head_has_the_headers_alone(site: Stack) -> None:
    for lines in ("", JSON):
        get, head = (answer(site, "/static/none", method=method, headers=lines) for method in ("GET", "HEAD"))
        assert (head.status, head.body) == (404, b"")
        assert head["content-type"] == get["content-type"]


@contextlib.contextmanager
def stopped(site: Stack) -> Iterator[None]:
    """No application runs."""
    site.stop_application()
    try:
        yield
    finally:
        docker("exec", "-d", site.name, "supervisorctl", "start", "application")
        site.wait_healthy()


def test_without_an_application_it_is_starting(site: Stack) -> None:
    with stopped(site):
        page = answer(site, "/show")
        assert_page(page, 503, "Starting")
        assert page["retry-after"] == "3"
        sent = answer(site, "/show", method="POST", headers="Content-Length: 3\r\n\r\nabc")
        assert (sent.status, sent["retry-after"]) == (503, "3")
        # After a POST the visitor goes back to the filled form, so the page does not reload itself.
        assert b"refresh" not in sent.body
        problem = answer(site, "/show", headers=JSON)
        assert_problem(problem, 503)
        assert problem["retry-after"] == "3"


def test_an_application_that_hangs_is_no_application_that_starts(site: Stack) -> None:
    family = 'm=$(supervisorctl pid application); w=$(sed -n "s/^PPid:\\t$m$/&/p;T;F" /proc/[0-9]*/status)'
    pids = site.exec("sh", "-c", f"{family}; echo $m $w | sed 's/[^0-9 ]//g'").split()
    assert len(pids) > 1
    site.exec("sh", "-c", f"kill -STOP {' '.join(pids)}")
    try:
        began = time.monotonic()
        page = answer(site, "/show", method="POST", headers="Content-Length: 0\r\n")
        assert time.monotonic() - began > PATIENCE - 1
    finally:
        site.exec("sh", "-c", f"kill -CONT {' '.join(pids)}")
    assert_page(page, 504)
    site.wait_healthy()


@pytest.mark.parametrize("status", [400, 403, 404, 405, 413, 429, 500, 502, 503, 504])
def test_an_error_of_the_project_is_its_own(site: Stack, status: int) -> None:
    for lines in ("", JSON):
        own = answer(site, f"/status/{status}", headers=lines)
        assert (own.status, own["content-type"], own.repeated()) == (status, "application/json", [])
        assert json.loads(own.body) == {"seen": own["x-request-id"]}
    assert re.fullmatch(MADE, own["x-request-id"])


@pytest.mark.parametrize(("status", "target"), [(404, "/nothing"), (500, "/crash")])
def test_django_s_own_page_looks_like_nginx_s_and_names_the_request(site: Stack, status: int, target: str) -> None:
    page = answer(site, target)
    text = page.body.decode()
    assert (page.status, page["content-type"]) == (status, "text/html; charset=utf-8")
    assert f"<h1>{title(status)}</h1>" in text
    assert '<a href="/">Start page</a>' in text
    assert re.fullmatch(MADE, page["x-request-id"])
    assert f"<small>{status}, request <code>{page['x-request-id']}</code></small>" in text
    rules = re.search("<style>(.*)</style>", answer(site, "/static/none").body.decode(), re.DOTALL)
    assert rules
    assert rules[1] in text


@pytest.mark.parametrize(
    ("accept", "form"),
    [
        ("", "html"),
        ("*/*", "html"),
        ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", "html"),
        ("text/html, application/json", "html"),
        ("text/html, application/json;q=0.9", "html"),
        ("application/json;q=0.5, text/html", "html"),
        ("application/json;q=0", "html"),
        ("application/json; q=0.0, */*", "html"),
        ("image/png", "html"),
        ("application/json", "json"),
        ("Application/JSON", "json"),
        ("application/problem+json", "json"),
        ("application/json, text/plain, */*", "json"),
        ("application/json, text/javascript, */*; q=0.01", "json"),
        ("application/json;q=0.9", "json"),
        ("application/json;charset=utf-8", "json"),
        ("application/json, text/html", "json"),
        ("application/json;q=0.9, text/html;q=0.8", "json"),
        ("text/html;q=0.8, application/json", "json"),
        pytest.param("application/json, " * 27, "json", id="long"),
        # Matching 8 KiB of these with regular expressions would take nginx 25 ms.
        pytest.param("application/json;, " * 220 + "text/html " * 390, "html", id="longer than a client's"),
    ],
)
def test_the_form_is_the_one_that_the_client_prefers(site: Stack, accept: str, form: str) -> None:
    given = answer(site, "/static/none", headers=f"Accept: {accept}\r\n")
    assert given["content-type"].endswith(form)


def test_nothing_of_the_request_is_repeated_in_an_answer(site: Stack) -> None:
    bad = "\"'><script>confirm(1)</script>"
    target = f"/static/{bad}?{bad}".replace(" ", "+")
    for lines in ("", JSON):
        more = f"{lines}User-Agent: {bad}\r\nReferer: {bad}\r\nX-Request-ID: {bad}\r\nCookie: {bad}\r\n"
        given = answer(site, target, headers=more)
        assert given.status == 404
        assert b"script" not in given.body
        assert "script" not in str(given.headers)


@pytest.mark.parametrize(
    "said", ["0123456789abcdef", "Root=1-67891233-abcdef012345678912345678", "a.b:c-d_e", "x" * 128]
)
def test_a_trusted_proxy_s_id_is_taken(site: Stack, said: str) -> None:
    line = f"X-Request-ID: {said}\r\n"
    page = answer(site, "/static/none", headers=line)
    assert (page["x-request-id"], page.repeated()) == (said, [])
    assert f"<code>{said}</code>".encode() in page.body
    assert json.loads(answer(site, "/status/200", headers=line).body) == {"seen": said}


@pytest.mark.parametrize(
    "said",
    ["short", "x" * 129, "with space", 'quote"quote', "<b>12345678", "semi;colon", "tab\there", "ümlaut-1234", ""],
)
def test_an_id_that_could_not_stand_anywhere_is_replaced(site: Stack, said: str) -> None:
    found = answer(site, "/status/200", headers=f"X-Request-ID: {said}\r\n")
    assert re.fullmatch(MADE, found["x-request-id"])
    assert json.loads(found.body) == {"seen": found["x-request-id"]}


def test_two_ids_are_none(site: Stack) -> None:
    twice = "X-Request-ID: 0123456789abcdef\r\n" * 2
    assert re.fullmatch(MADE, answer(site, "/static/none", headers=twice)["x-request-id"])


def test_a_client_s_own_id_is_replaced(site: Stack) -> None:
    assert re.fullmatch(MADE, site.exec("python3", "-c", FROM_INSIDE, "as-the-client-says"))


def test_every_answer_has_an_id_of_its_own(site: Stack) -> None:
    same = f"If-None-Match: {answer(site, CSS)['etag']}\r\n"
    kinds = [
        ("/", ""),
        ("/nothing", ""),
        ("/admin/", ""),
        (CSS, ""),
        (CSS, same),
        ("/static/admin", ""),
        ("/media/x", ""),
    ]
    given = [
        answer(site, target, method=method, headers=lines) for target, lines in kinds for method in ("GET", "HEAD")
    ]
    assert all(re.fullmatch(MADE, one["x-request-id"]) and not one.repeated() for one in given)
    assert len({one["x-request-id"] for one in given}) == len(given)
