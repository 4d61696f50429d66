"""Unusual hosts: no network, low or high limits, a wrong clock, a full disk."""

import datetime
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.acme import TlsStack
from tests.support.docker import LABEL, docker, run, unique
from tests.support.http import Browser, make_superuser
from tests.support.stack import Stack
from tests.support.tree import helper_image
from tests.support.wait import wait_until

NewStack = Callable[[Stack], Stack]
PAGE = """
import http.client, socket
connection = http.client.HTTPConnection("127.0.0.1", 8080, timeout=20)
connection.request("GET", "/")
print(connection.getresponse().status)
"""
LITTLE = ["--memory", "128m", "--memory-swap", "128m", "--ulimit", "nofile=128:128", "--pids-limit", "40"]
LITTLE += ["--sysctl", "net.core.somaxconn=128", "--cpus", "0.5"]
# Of descriptors there are as many as the engine itself may have, unless fewer are asked for.
MUCH = ["--memory", "4g", "--sysctl", "net.core.somaxconn=65535", "--pids-limit", "-1"]
PLACES = {
    "no network": ["--network", "none"],
    "little of everything": LITTLE,
    "much of everything": MUCH,
    "another uid on a new volume": ["--user", "54321:0"],
    "the engine's own PID 1": ["--init"],
}
# With init as PID 1 and without.
SIGNALLED = ("another uid on a new volume", "the engine's own PID 1")


@pytest.fixture(scope="module")
def places() -> Iterator[dict[str, Stack]]:
    """They start side by side."""
    stacks = {name: Stack(options=options) for name, options in PLACES.items()}
    try:
        for stack in stacks.values():
            stack.start()
        yield stacks
    finally:
        for stack in stacks.values():
            stack.remove()


@pytest.mark.parametrize("name", PLACES)
def test_it_starts_serves_and_stops_there(places: dict[str, Stack], name: str) -> None:
    stack = places[name]
    stack.wait_healthy(120)
    assert [stack.exec("python3", "-c", PAGE) for _ in range(3)] == ["200"] * 3
    if name == "little of everything":
        # Each visitor takes a descriptor or two of nginx's.
        assert [stack.get().status_code for _ in range(100)] == [200] * 100
    if name in SIGNALLED:
        for number in ("USR1", "USR2", "HUP"):
            docker("kill", "-s", number, stack.name)
        assert stack.says("cmd: reloading, as SIGHUP asks")
        assert stack.says(" workers replaced in ")
    assert stack.stop() == 0
    assert stack.last_line() == "cmd: stopped"
    assert stack.trouble() == []
    assert not stack.state()["OOMKilled"]


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file to preload that tells the time by what is written beside it."""
    place = tmp_path_factory.mktemp("clock") / "clock"
    place.mkdir()
    name = unique("faketime")
    docker("create", "--name", name, "--label", LABEL, helper_image("faketime"), "true")
    try:
        docker("cp", f"{name}:/libfaketime.so", place)
    finally:
        docker("rm", name)
    return place


def test_it_serves_by_a_clock_that_is_wrong_and_is_put_right(new_stack: NewStack, library: Path) -> None:
    (library / "offset").write_text("-15y\n")
    clock: dict[str, str | None] = {
        "LD_PRELOAD": "/clock/libfaketime.so",
        "FAKETIME_TIMESTAMP_FILE": "/clock/offset",
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "ACME_SERVER": "https://127.0.0.1:9/directory",
    }
    site = TlsStack(None, clock, mounts=[f"{library}:/clock:ro"])
    # No authority answers, and at most uWSGI's harakiri, which goes by the clock, ends a probe that is under way.
    site.allowed = ["^certbot: ", "HARAKIRI", "killed"]
    new_stack(site).up(120)

    def year() -> int:
        return int(site.exec("date", "+%Y"))

    now = datetime.datetime.now(datetime.UTC)
    assert year() <= now.year - 14
    certificate = site.served()
    assert certificate.not_valid_before_utc < now - datetime.timedelta(days=14 * 365)
    assert site.ask()[0] == 200
    for offset in ("+0", "+5y", "-1y"):
        # In one piece: a program that finds the file empty ends.
        (library / "next").write_text(f"{offset}\n")
        (library / "next").rename(library / "offset")
        wait_until(lambda: [site.ask()[0] for _ in range(5)] == [200] * 5, 30)
        site.wait_healthy()
    assert year() < now.year
    assert site.logs().count("supervisor: starting ") == 3
    assert site.stop() == 0


@pytest.fixture
def small_volume() -> Iterator[str]:
    """A volume of six megabytes."""
    name = unique("data")
    options = ("type=tmpfs", "device=tmpfs", "o=size=6m,mode=2770,uid=0,gid=0")
    docker("volume", "create", "--label", LABEL, *(word for one in options for word in ("--opt", one)), name)
    yield name
    docker("volume", "rm", "-f", name, check=False)


CHECK = "import sqlite3; print(*sqlite3.connect('/data/db.sqlite3').execute('pragma integrity_check').fetchone())"


def test_a_full_disk_fails_what_writes_and_nothing_else_until_there_is_room(
    small_volume: str, new_stack: NewStack
) -> None:
    site = new_stack(Stack({"LOG_FORMAT": "json"}, volume=small_volume)).up(120)
    site.allowed = ["OperationalError|No space left|Errno 28|Internal Server Error|/admin/", r'"nginx.access"']
    make_superuser(site)
    browser = Browser(site)
    assert browser.log_in().status_code == 302

    def upload(name: str, size: int) -> int:
        form = {"title": name}
        files = {"file": (f"{name}.bin", name.encode() * (size // len(name)))}
        return browser.submit("/admin/start/document/add/", form, files=files).status_code

    assert upload("before", 100_000) == 302
    began = site.state()["StartedAt"]
    site.exec("sh", "-c", "head -c 10000000 /dev/zero >/data/full", check=False)
    site.exec("sh", "-c", "while echo x >>/data/rest; do :; done 2>/dev/null", check=False)
    # In Django's memory, in Django's file, in nginx's file; then what the database itself would write.
    for size in (1000, 500_000, 4_000_000):
        assert 500 <= upload("during", size) < 600, size
    for _ in range(3):
        assert Browser(site).log_in().status_code >= 500
        assert site.get().status_code == 200
        assert browser.get("/admin/start/document/").status_code == 200
    assert site.get("/media/documents/before.bin").content == b"before" * (100_000 // 6)
    assert run("docker", "exec", site.name, "healthcheck").stdout == "healthy\n"

    site.exec("rm", "/data/full", "/data/rest")
    assert upload("after", 1_000_000) == 302
    assert Browser(site).log_in().status_code == 302
    listed = browser.get("/admin/start/document/").text
    assert [f">{title}<" in listed for title in ("before", "during", "after")] == [True, False, True]
    assert site.exec("find", "/data/tmp", "-type", "f") == ""
    assert site.exec("python3", "-c", CHECK) == "ok"
    state = site.state()
    assert (state["Status"], state["StartedAt"]) == ("running", began)
    records = [json.loads(line) for line in site.logs().splitlines() if '"error"' in line]
    assert any(re.search("disk is full|No space left", json.dumps(one)) for one in records)
