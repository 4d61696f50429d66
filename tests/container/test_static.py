"""Files that nginx serves from the image: caching, compression, ranges; nothing beside them; no header twice."""

import gzip
import re

import pytest

from tests.support.http import Answer, answer, ask, exchange
from tests.support.stack import Stack

PLAIN = "/static/start/start.css"
SECURITY = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",
}
# Content of files that must not be served: passwords, keys, settings, the database, the list of files.
SECRETS = re.compile(rb"root:|SECRET_KEY|BASE_DIR|SQLite format|staticfiles|DJANGO_|Subject:")


@pytest.fixture(scope="module")
def site_stack() -> Stack:
    stack = Stack.trial()
    stack.allowed = [
        r"django\.request.*: (Not Found|Method Not Allowed|Bad Request|Internal Server Error)",
        r"django\.security\.csrf.*: Forbidden",
        "directory index of .* is forbidden",
        # /crash
        "Traceback|RuntimeError: as the test asked|core/handlers/exception.py",
    ]
    return stack


@pytest.fixture(scope="module")
def hashed(site: Stack) -> str:
    """The style sheet that the start page asks for."""
    found = re.search(r'<link rel="stylesheet" href="([^"]+)"', answer(site).body.decode())
    assert found
    return found[1]


def test_the_start_page_refers_to_a_style_sheet_by_its_hashed_name(site: Stack, hashed: str) -> None:
    assert re.fullmatch(r"/static/start/start\.[0-9a-f]{12}\.css", hashed)
    sheet = answer(site, hashed)
    assert (sheet.status, sheet["content-type"]) == (200, "text/css")
    assert sheet.body == answer(site, PLAIN).body


def test_every_style_sheet_and_script_of_the_admin_is_there(site: Stack) -> None:
    page = answer(site, "/admin/login/").body.decode()
    links = re.findall(r'(?:href|src)="(/static/[^"]+)"', page)
    assert len(links) >= 3
    for link in links:
        assert answer(site, link).status == 200, link


def test_text_is_said_to_be_utf_8(site: Stack) -> None:
    assert answer(site, "/static/admin/img/README.txt")["content-type"] == "text/plain; charset=utf-8"


def test_a_hashed_name_is_kept_for_a_year_and_any_other_is_asked_for_again(site: Stack, hashed: str) -> None:
    assert answer(site, hashed)["cache-control"] == "public, max-age=31536000, immutable"
    assert answer(site, PLAIN)["cache-control"] == "no-cache"
    missing = answer(site, hashed.replace("start.css", "").replace(".css", "x.css"))
    assert (missing.status, missing["cache-control"]) == (404, "")


@pytest.mark.parametrize(
    ("accepted", "encoding"),
    [
        ("", ""),
        ("identity", ""),
        ("deflate", ""),
        ("gzip", "gzip"),
        ("gzip, deflate", "gzip"),
        ("br", "br"),
        ("gzip, deflate, br, zstd", "br"),
        ("gzip;q=0", ""),
        ("br;q=0, gzip", "gzip"),
    ],
)
def test_a_file_comes_compressed_as_the_client_accepts_it(
    site: Stack, hashed: str, accepted: str, encoding: str
) -> None:
    given = answer(site, hashed, headers=f"Accept-Encoding: {accepted}\r\n")
    plain = answer(site, hashed).body
    assert (given.status, given["content-type"]) == (200, "text/css")
    assert (given["content-encoding"], given["vary"]) == (encoding, "Accept-Encoding")
    assert int(given["content-length"]) == len(given.body)
    if encoding == "":
        assert given.body == plain
    else:
        assert len(given.body) < len(plain) / 2
    if encoding == "gzip":
        assert gzip.decompress(given.body) == plain


@pytest.mark.parametrize("encoding", ["gzip", "br"])
@pytest.mark.parametrize(
    ("version", "lines"), [("1.0", ""), ("1.1", "Via: 1.1 proxy\r\n"), ("1.0", "Via: 1.0 proxy\r\n")]
)
def test_a_file_comes_compressed_through_a_proxy_too(
    site: Stack, hashed: str, version: str, lines: str, encoding: str
) -> None:
    given = answer(site, hashed, version=version, headers=f"{lines}Accept-Encoding: {encoding}\r\n")
    assert (given["content-encoding"], given["vary"]) == (encoding, "Accept-Encoding")
    plain = answer(site, hashed, version=version, headers=lines)
    assert (plain["content-encoding"], plain["vary"]) == ("", "Accept-Encoding")


def test_each_encoding_has_an_etag_of_its_own_that_a_304_answers(site: Stack, hashed: str) -> None:
    tags = set()
    for accepted in ("identity", "gzip", "br"):
        line = f"Accept-Encoding: {accepted}\r\n"
        tag = answer(site, hashed, headers=line)["etag"]
        again = answer(site, hashed, headers=f"{line}If-None-Match: {tag}\r\n")
        assert (again.status, again.body, again["etag"]) == (304, b"", tag)
        assert again["cache-control"] == "public, max-age=31536000, immutable"
        tags.add(tag)
    assert len(tags) == 3
    assert answer(site, hashed, headers='If-None-Match: "other"\r\n').status == 200


def test_ranges_are_served(site: Stack) -> None:
    whole = answer(site, PLAIN).body
    part = answer(site, PLAIN, headers="Range: bytes=10-19\r\n")
    assert (part.status, part.body) == (206, whole[10:20])
    assert part["content-range"] == f"bytes 10-19/{len(whole)}"
    assert answer(site, PLAIN, headers="Range: bytes=-5\r\n").body == whole[-5:]
    beyond = answer(site, PLAIN, headers="Range: bytes=999999-\r\n")
    assert (beyond.status, beyond["content-range"]) == (416, f"bytes */{len(whole)}")


def test_head_says_what_get_gives(site: Stack) -> None:
    get, head = answer(site, PLAIN), answer(site, PLAIN, method="HEAD")
    assert (head.status, head.body, head["content-length"]) == (200, b"", str(len(get.body)))


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "PROPFIND", "TRACE"])
def test_files_can_only_be_read(site: Stack, method: str) -> None:
    assert answer(site, PLAIN, method=method, headers="Content-Length: 0\r\n").status == 405


@pytest.mark.parametrize("end", ["", ".gz", ".br"])
@pytest.mark.parametrize(
    "path", ["/static/", "/static//", "/static/./", "/static/x/../", "//static/", "/static/%73/../"]
)
def test_the_list_of_all_files_is_not_shown(site: Stack, path: str, end: str) -> None:
    listed = answer(site, f"{path}staticfiles.json{end}", headers="Accept-Encoding: gzip, br\r\n")
    assert listed.status == 404
    assert not SECRETS.search(listed.body)


@pytest.mark.parametrize(
    "target",
    [
        "/static/../settings",
        "/static/../../app/project/settings/base.py",
        "/static/%2e%2e/%2e%2e/etc/passwd",
        "/static/..%2f..%2fetc%2fpasswd",
        "/static/%2e%2e%2f%2e%2e%2fetc%2fpasswd",
        "/static/..%252f..%252fetc/passwd",
        "/static/..%c0%af..%c0%afetc/passwd",
        "/static../app/manage.py",
        "/static..%2fapp/manage.py",
        "/static/..;/..;/etc/passwd",
        "/static//etc/passwd",
        "//etc/passwd",
        "/static/\\..\\..\\etc\\passwd",
        "/static/..\\..\\etc\\passwd",
        "/static/%5c..%5c..%5cetc%5cpasswd",
        "/static/start/start.css%00.png",
        "/static/%00",
        "/static/start/start.css/",
        "/static/start/start.css/../../../../etc/passwd",
        "/static/start/",
        "/static/start/start.css.bak",
        "/static/start/start.css~",
        "/static/.git/config",
        "/static/.env",
        "/.git/config",
        "/.env",
        "/media/../db.sqlite3",
        "/media/%2e%2e/db.sqlite3",
        "/media/..%2fdb.sqlite3",
        "/media../db.sqlite3",
        "/media../secret_key",
        "/media//data/secret_key",
        "/media/.htaccess",
        "/media/documents/../../tmp/",
        "/../../etc/passwd",
        "/%2e%2e/%2e%2e/etc/passwd",
        "/app/manage.py",
        "/project/settings/base.py",
        "/manage.py",
    ],
)
def test_nothing_but_the_files_can_be_reached(site: Stack, target: str) -> None:
    for method in ("GET", "HEAD"):
        refused = answer(site, target, method=method)
        assert refused.status in (400, 403, 404)
        assert not SECRETS.search(refused.body), refused.body


def test_a_nul_in_a_request_line_is_a_bad_request(site: Stack) -> None:
    refused = exchange(site, b"GET /static/start/start.css\0.png HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert refused is not None
    assert refused.status == 400


def test_a_redirect_to_a_folder_names_no_port_of_ours(site: Stack) -> None:
    moved = answer(site, "/static/admin", host=f"localhost:{site.port}")
    assert (moved.status, moved["location"]) == (301, "/static/admin/")


def answers(site: Stack, method: str) -> list[tuple[str, Answer]]:
    """One answer of every kind that nginx and Django give."""
    kinds = {
        "/": "",
        "/show": "",
        "/nothing": "",
        "/crash": "",
        "/admin": "",
        "/admin/": "",
        "/admin/login/": "",
        "/large/1": "",
        PLAIN: "",
        f"{PLAIN}?gzip": "Accept-Encoding: gzip\r\n",
        f"{PLAIN}?part": "Range: bytes=0-1\r\n",
        f"{PLAIN}?parts": "Range: bytes=0-1,4-5\r\n",
        f"{PLAIN}?beyond": "Range: bytes=999999-\r\n",
        f"{PLAIN}?same": f"If-None-Match: {answer(site, PLAIN)['etag']}\r\n",
        f"{PLAIN}?precondition": 'If-Match: "other"\r\n',
        "/static/": "",
        "/static/admin": "",
        "/static/nothing": "",
        "/static/staticfiles.json": "",
        "/media/": "",
        "/media/nothing": "",
        "/dockerable/unreadable": "",
        "/%00": "",
    }
    return [(target, answer(site, target, method=method, headers=lines)) for target, lines in kinds.items()]


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "OPTIONS"])
def test_no_header_comes_twice(site: Stack, method: str) -> None:
    repeated = {target: given.repeated() for target, given in answers(site, method)}
    assert not {target: names for target, names in repeated.items() if names}


def test_files_and_pages_have_the_security_headers(site: Stack) -> None:
    for target in ("/", "/admin/login/", "/nothing", PLAIN, f"{PLAIN}x", "/media/nothing"):
        given = answer(site, target)
        assert {name: given[name] for name in SECURITY} == SECURITY, target


def test_nothing_names_a_version(site: Stack) -> None:
    for target in ("/", PLAIN, "/static/", "/nothing", "/%00"):
        given = answer(site, target)
        assert given["server"] == "nginx"
        assert not given["x-powered-by"]
        assert not re.search(rb"(nginx|uwsgi)[/ ][0-9]", given.body, re.IGNORECASE)
    assert ask(site, host="evil.test") is None
