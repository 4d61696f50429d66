"""Uploads: from the form to the data volume and back, harmless whatever they are, large ones under little memory."""

import json
import re
import socket
from collections.abc import Callable
from urllib.parse import urlencode

import pytest

from tests.support.docker import ROOT, docker
from tests.support.http import Answer, Browser, answer, connect, make_superuser, parse, read_all
from tests.support.stack import Stack

MEGABYTE = 1 << 20
BOUNDARY = "boundary-of-the-test"
# Resident memory that is nobody's cache, by cgroup v1 or v2; and how often the kernel killed for want of it.
ANONYMOUS = "cat /sys/fs/cgroup/memory.stat /sys/fs/cgroup/memory/memory.stat 2>/dev/null"
KILLED = "cat /sys/fs/cgroup/memory.events /sys/fs/cgroup/memory/memory.oom_control 2>/dev/null"
OPEN_TEMPORARY_FILES = "ls -l /proc/[0-9]*/fd 2>/dev/null | sed -n 's/.* -> //p' | grep /tmp/"


@pytest.fixture(scope="module")
def site_stack() -> Stack:
    stack = Stack.trial({"NGINX_CLIENT_MAX_BODY_SIZE": "300m"}, options=["--memory", "256m", "--memory-swap", "256m"])
    stack.allowed = ["client intended to send too large", "Too many levels of symbolic links|Not a directory"]
    stack.allowed += ["unsafe URI", r"django\.request.*: Not Found"]
    return stack


@pytest.fixture(scope="module")
def ada(site: Stack) -> Browser:
    """A browser that is logged in."""
    make_superuser(site)
    browser = Browser(site)
    assert browser.log_in().status_code == 302
    return browser


def upload(browser: Browser, name: str, content: bytes) -> str:
    """Upload a document in the admin; the address that it is served at."""
    sent = browser.submit(
        "/admin/start/document/add/", {"title": name}, files={"file": (name, content, "application/octet-stream")}
    )
    assert sent.status_code == 302, sent.text
    found = re.search(r'href="(/media/documents/[^"]+)"', _latest(browser))
    assert found
    return found[1]


def _latest(browser: Browser) -> str:
    """The page of the newest document."""
    listed = browser.get("/admin/start/document/").text
    found = re.search(r'href="(/admin/start/document/\d+/change/)"', listed)
    assert found
    return browser.get(found[1]).text


def test_no_link_among_the_uploads_leads_out_of_them(site: Stack) -> None:
    make = "cd /data/media && echo x > plain.txt && ln -s ../db.sqlite3 file && ln -s / folder && ln -s plain.txt near"
    site.exec("sh", "-c", make)
    paths = ("plain.txt", "file", "folder/etc/hostname", "folder/data/db.sqlite3", "near")
    assert [site.get(f"/media/{path}").status_code for path in paths] == [200, 403, 404, 404, 403]


@pytest.mark.parametrize("target", ["/data", "/etc", ".", "moved"])
def test_a_link_in_place_of_the_uploads_is_not_followed(site: Stack, target: str) -> None:
    # One for each case: nginx holds a file that it has served open for some seconds.
    name = f"seen-{target.strip('/.')}.txt"
    try:
        site.exec("sh", "-c", f"cd /data && echo x >media/{name} && mv media moved && ln -s {target} media")
        paths = ("db.sqlite3", "hostname", f"moved/{name}", name)
        assert {site.get(f"/media/{path}").status_code for path in paths} <= {403, 404}
    finally:
        site.exec("sh", "-c", "cd /data && rm media && mv moved media")
    assert site.get(f"/media/{name}").text == "x\n"


def test_the_command_for_hard_links_finds_the_one_that_publishes_a_file(site: Stack) -> None:
    found = re.search(r"`(find /data/media [^`]+)`", (ROOT / "dockerable/SECURITY.md").read_text())
    assert found
    site.exec("sh", "-c", "cd /data && echo secret >key && ln key media/hard && echo x >media/plain")
    assert site.get("/media/hard").text == "secret\n"
    assert site.exec(*found[1].split()) == "/data/media/hard"
    site.exec("rm", "/data/key", "/data/media/hard")


@pytest.mark.parametrize("size", [11, 3 * MEGABYTE])
def test_an_upload_is_kept_in_the_data_volume_and_served(site: Stack, ada: Browser, size: int) -> None:
    content = b"0123456789\n" * (size // 11)
    address = upload(ada, f"note-{size}.txt", content)
    assert address == f"/media/documents/note-{size}.txt"
    assert site.exec("stat", "-c", "%a %g", f"/data{address}") == "660 0"
    assert site.exec("stat", "-c", "%a", "/data/media/documents") == "2770"
    served = answer(site, address)
    assert (served.status, served["content-type"], served.body) == (200, "text/plain; charset=utf-8", content)


@pytest.mark.parametrize(
    ("name", "kind", "disposition"),
    [
        ("page.html", "text/html; charset=utf-8", "attachment"),
        ("page.htm", "text/html; charset=utf-8", "attachment"),
        ("page.shtml", "text/html; charset=utf-8", "attachment"),
        ("page.xhtml", "application/xhtml+xml", "attachment"),
        ("page.HTML", "text/html; charset=utf-8", "attachment"),
        ("image.svg", "image/svg+xml", "attachment"),
        ("image.svgz", "image/svg+xml", "attachment"),
        ("data.xml", "text/xml", "attachment"),
        ("style.css", "text/css", "attachment"),
        ("script.js", "application/javascript", "attachment"),
        ("script.mjs", "application/javascript", "attachment"),
        ("script.php", "application/octet-stream", "attachment"),
        ("script.py", "application/octet-stream", "attachment"),
        ("unknown", "application/octet-stream", "attachment"),
        ("image.png", "image/png", ""),
        ("image.jpg", "image/jpeg", ""),
        ("image.webp", "image/webp", ""),
        ("film.mp4", "video/mp4", ""),
        ("song.mp3", "audio/mpeg", ""),
        ("paper.pdf", "application/pdf", ""),
        ("note.txt", "text/plain; charset=utf-8", ""),
    ],
)
def test_what_a_browser_would_run_is_downloaded(
    site: Stack, ada: Browser, name: str, kind: str, disposition: str
) -> None:
    content = b"<?php echo 6*7; ?><script>alert(6*7)</script><!--#exec cmd='id'-->\nprint(6*7)\n"
    address = upload(ada, name, content)
    served = answer(site, address)
    # As it came, so nothing ran it.
    assert (served.status, served.body) == (200, content)
    assert (served["content-type"], served["content-disposition"]) == (kind, disposition)
    assert served["x-content-type-options"] == "nosniff"
    assert re.search(r"default-src 'none'.*; sandbox$", served["content-security-policy"])
    assert not served.repeated()
    assert site.exec("stat", "-c", "%A", f"/data{address}") == "-rw-rw----"

    # A client keeps the headers of a cached file after a 304.
    again = answer(site, address, headers=f"If-None-Match: {served['etag']}\r\n")
    assert (again.status, again["content-disposition"]) == (304, "")
    beyond = answer(site, address, headers="Range: bytes=9999-\r\n")
    assert (beyond.status, beyond.repeated()) == (416, [])


def accelerated(site: Stack, target: str, **headers: str) -> Answer:
    """The answer to a view that names this file in X-Accel-Redirect and has these headers, _ for -."""
    query = urlencode({"to": target, **{name.replace("_", "-"): value for name, value in headers.items()}})
    return answer(site, f"/accelerated?{query}")


@pytest.mark.parametrize("folder", ["media", "private"])
def test_a_view_that_names_a_file_gives_it_headers_of_its_own(site: Stack, folder: str) -> None:
    site.exec("sh", "-c", f"echo '<b>' >/data/{folder}/page.html")
    target = f"/{folder}/page.html" if folder == "media" else f"/-/{folder}/page.html"
    mine = {"Content_Disposition": 'attachment; filename="x.html"', "Cache_Control": "max-age=5", "Set_Cookie": "a=b"}
    served = accelerated(site, target, **mine)
    assert (served.status, served.body, served.repeated()) == (200, b"<b>\n", [])
    assert {name: served[name.replace("_", "-")] for name in mine} == mine
    assert served["x-content-type-options"] == "nosniff"
    assert re.search(r"default-src 'none'.*; sandbox$", served["content-security-policy"])
    # Without any, the file is as harmless as an upload.
    plain = accelerated(site, target)
    assert (plain.status, plain["content-disposition"], plain.repeated()) == (200, "attachment", [])
    assert plain["cache-control"] == ("" if folder == "media" else "private, no-cache")


@pytest.mark.parametrize("said", ["text/plain; charset=iso-8859-1", "text/html; charset=utf-16", "text/css"])
def test_the_charset_is_the_view_s_where_it_names_one(site: Stack, said: str) -> None:
    site.exec("sh", "-c", "echo x >/data/private/note.txt")
    assert accelerated(site, "/-/private/note.txt", Content_Type=said)["content-type"] == said


def test_a_static_file_that_a_view_names_is_kept_as_long_as_the_view_says(site: Stack) -> None:
    served = accelerated(site, "/static/start/start.css", Cache_Control="private")
    assert (served.status, served["cache-control"], served.repeated()) == (200, "private", [])


@pytest.mark.parametrize(
    ("target", "status"),
    [
        ("/-/private/deep/a%20file.txt", 200),
        ("/-/private/deep/", 404),
        ("/-/private/none", 404),
        ("/-/private/a%0ab", 404),
        ("/-/private/deep/link", 403),
        ("/-/private/way/hostname", 404),
        ("/-/private/%2e%2e/db.sqlite3", 404),
        ("/-/privateer", 404),
    ],
)
def test_private_files_come_by_a_view_alone(site: Stack, target: str, status: int) -> None:
    make = "mkdir -p deep && echo mine >'deep/a file.txt' && ln -sf ../../db.sqlite3 deep/link && ln -sfn /etc way"
    site.exec("sh", "-c", f"cd /data/private && {make}")
    assert accelerated(site, target).status == status
    assert answer(site, target).status == 404


def test_an_upload_that_is_not_there_is_a_page_and_no_download(site: Stack) -> None:
    missing = answer(site, "/media/documents/nothing.html")
    assert (missing.status, missing["content-disposition"]) == (404, "")


def head(size: int, more: str = "") -> bytes:
    """The head of a POST whose body has this many bytes."""
    return (
        f"POST /body HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {size}\r\n"
        f"Content-Type: multipart/form-data; boundary={BOUNDARY}\r\n{more}\r\n"
    ).encode()


def send_file(site: Stack, megabytes: int, halfway: Callable[[], None] = lambda: None) -> Answer:
    """POST a form with one file; `halfway` is called when half of it is sent."""
    disposition = 'Content-Disposition: form-data; name="file"; filename="x.bin"'
    before = f"--{BOUNDARY}\r\n{disposition}\r\nContent-Type: application/octet-stream\r\n\r\n".encode()
    after = f"\r\n--{BOUNDARY}--\r\n".encode()
    with connect(site, 60) as connection:
        connection.sendall(head(len(before) + megabytes * MEGABYTE + len(after)) + before)
        for number in range(megabytes):
            connection.sendall(b"x" * MEGABYTE)
            if number == megabytes // 2:
                halfway()
        connection.sendall(after)
        return parse(read_all(connection))


@pytest.mark.parametrize("more", ["", "Expect: 100-continue\r\n"])
def test_a_body_larger_than_allowed_is_refused_before_it_is_sent(site: Stack, more: str) -> None:
    with connect(site) as connection:
        connection.sendall(head(300 * MEGABYTE + 1, more))
        refused = parse(connection.recv(65536))
    assert refused.status == 413
    assert b"<h1>Content Too Large</h1>" in refused.body


def test_a_body_of_unknown_length_is_refused_when_it_grows_too_large(site: Stack) -> None:
    with connect(site) as connection:
        connection.sendall(head(0).replace(b"Content-Length: 0", b"Transfer-Encoding: chunked"))
        chunk = b"100000\r\n" + b"x" * MEGABYTE + b"\r\n"
        try:
            for _ in range(310):
                connection.sendall(chunk)
        except OSError:
            pass  # closed as soon as it was answered
        connection.shutdown(socket.SHUT_WR)
        assert parse(read_all(connection)).status == 413
    assert site.exec("find", "/data/tmp", "-type", "f") == ""


def anonymous(site: Stack) -> float:
    """Memory of the container's processes, in MiB."""
    found = re.search(r"^(?:total_rss|anon) (\d+)$", site.exec("sh", "-c", ANONYMOUS, check=False), re.MULTILINE)
    assert found
    return int(found[1]) / MEGABYTE


def test_a_large_upload_needs_disk_and_not_memory(site: Stack) -> None:
    send_file(site, 1)
    before, halfway, files = anonymous(site), 0.0, ""
    began = site.state()["StartedAt"]

    def look() -> None:
        nonlocal halfway, files
        halfway = anonymous(site)
        files = site.exec("sh", "-c", OPEN_TEMPORARY_FILES)

    received = send_file(site, 200, look)
    assert received.status == 200
    file = json.loads(received.body)["files"]["file"]
    assert file["size"] == 200 * MEGABYTE
    # Django's own copy is where the media are; nginx's too.
    assert file["path"].startswith("/data/tmp/")
    assert "/data/tmp/nginx/body/" in files
    assert halfway - before < 16
    assert anonymous(site) - before < 16
    assert not re.search(r"^oom_kill [^0]", site.exec("sh", "-c", KILLED, check=False), re.MULTILINE)
    state = site.state()
    assert (state["OOMKilled"], state["StartedAt"]) == (False, began)
    # Nothing is left, neither with a name nor held open.
    assert site.exec("find", "/data/tmp", "-type", "f") == ""
    assert "/data/tmp" not in site.exec("sh", "-c", OPEN_TEMPORARY_FILES, check=False)


def test_a_start_removes_what_was_left_halfway_and_no_upload_of_another_container(
    site: Stack, ada: Browser, new_stack: Callable[[Stack], Stack]
) -> None:
    kept = upload(ada, "kept.txt", b"kept")
    # What a power cut has left, and what another container may be receiving at this moment, each of another uid.
    old = ("/data/tmp/old.upload.bin", "/data/tmp/nginx/body/0000000002")
    young = ("/data/tmp/nginx/body/0000000001", "/data/tmp/young.upload.bin")
    for left in (*old, *young):
        site.exec("sh", "-c", f"umask 077 && echo left >{left}")
    site.exec("touch", "-d", "61 minutes ago", *old)
    site.exec("touch", "-d", "59 minutes ago", *young)
    # Its uid may neither read nor empty this folder.
    site.exec("mkdir", "-m", "700", "/data/tmp/closed")
    docker("kill", site.name)
    try:
        other = new_stack(Stack.trial(volume=site.volume, options=["--user", "20002:0"]))
        other.allowed = ["warning: not everything in /data/tmp that is older than an hour can be removed"]
        other.up()
        assert other.says(other.allowed[0])
        assert sorted(other.exec("find", "/data/tmp", "-type", "f", check=False).split()) == sorted(young)
        assert answer(other, kept).body == b"kept"
        # nginx takes the next name where it finds one in use.
        assert send_file(other, 3).status == 200
    finally:
        docker("kill", other.name)
        docker("start", site.name)
        site.wait_healthy()
    assert answer(site, kept).body == b"kept"
    site.exec("rm", "-r", "/data/tmp/closed", *young)
