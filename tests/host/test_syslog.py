"""The host's rsyslog as dockerable/host/ sets it up: which line comes into which file, and as what."""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.docker import unique
from tests.support.syslog import PROGRAMS, Source, SyslogHost, running
from tests.support.wait import wait_until

LEVELS = ("debug", "warning", "error", "critical", "alert", "emergency")
STAMP = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+(?:Z|[+-]\d\d:\d\d)"
HOSTILE = [
    "../../etc/x: y",
    "/etc/passwd: y",
    "django/../../x: y",
    "..: y",
    ": y",
    "y",
    "django",
    "django:y",
    "Django: y",
    "d\xe9jango: y",
    f"{'n' * 4000}: y",
    '{"event.dataset":"../../etc/x"}',
    '{"event.dataset":"no end',
    '{"message":"\\"event.dataset\\":\\"django\\""}',
    "*.*: y",
    "$(touch /tmp/x): y",
]


class DevLogHost(SyslogHost):
    options = ("--dev-log",)


@pytest.fixture(scope="module")
def host() -> Iterator[SyslogHost]:
    yield from running(DevLogHost)


@pytest.fixture
def send(host: SyslogHost, tmp_path: Path) -> Iterator[Callable[..., str]]:
    """Prints lines in a container; its name, once rsyslog has the last of them."""
    sources = []

    def send(lines: list[str], *, address: str = "", **more: str) -> str:
        end = unique("end")
        (tmp_path / "lines").write_text("".join(f"{line}\n" for line in [*lines, f"cmd: {end}"]))
        mount = ("-v", f"{tmp_path}:/lines:ro")
        source = Source(address or host.address, "cat /lines/lines", options=mount, **more)
        sources.append(source)
        source.start()
        wait_until(lambda: host.shell(f"grep -rl {end} /var/log", check=False))
        return source.name

    yield send
    for source in sources:
        source.remove()


def without_stamp(line: str) -> str:
    assert re.match(rf"{STAMP} ", line), line
    return line.split(" ", 1)[1]


@pytest.mark.parametrize("way", ["address", "dev_log"])
def test_each_program_has_a_file_with_time_level_and_message(
    host: SyslogHost, send: Callable[..., str], way: str
) -> None:
    lines = [f"{program}: {level}: said: {program}" for program in PROGRAMS for level in LEVELS]
    lines += [f"{program}: said: {program}" for program in PROGRAMS]
    found = host.files(send(lines, address=getattr(host, way)))
    assert set(found) == {f"{program}.log" for program in PROGRAMS}
    for program in PROGRAMS:
        told = [without_stamp(line) for line in found[f"{program}.log"]][: len(LEVELS) + 1]
        assert told == [f"{level} said: {program}" for level in (*LEVELS, "info")]


@pytest.mark.parametrize("way", ["address", "dev_log"])
def test_a_json_object_comes_unchanged_into_its_programs_file(
    host: SyslogHost, send: Callable[..., str], way: str
) -> None:
    forged = '","event.dataset":"uwsgi","x":"'
    record = {
        "@timestamp": "2026-11-21T12:00:00.000Z",
        "log.level": "error",
        "message": forged,
        "url.original": "\xe9\\",
    }
    lines = [json.dumps({**record, "event.dataset": program}, separators=(",", ":")) for program in PROGRAMS]
    found = host.files(send(lines, address=getattr(host, way)))
    assert {name: lines[0] for name, lines in found.items()} == {
        f"{program}.log": line for program, line in zip(PROGRAMS, lines, strict=True)
    }


@pytest.mark.parametrize("way", ["address", "dev_log"])
def test_what_only_looks_like_a_tag_makes_no_file(host: SyslogHost, send: Callable[..., str], way: str) -> None:
    before = set(host.run("find", "/", "-xdev", "-newer", "/run/rsyslogd.pid", "-type", "f").split())
    name = send(HOSTILE, address=getattr(host, way))
    found = host.files(name)
    assert [without_stamp(line) for line in found["other.log"]] == [f"- {line}" for line in HOSTILE]
    after = set(host.run("find", "/", "-xdev", "-newer", "/run/rsyslogd.pid", "-type", "f").split())
    assert after - before <= {f"/var/log/{name}/{file}" for file in ("other.log", "cmd.log")}


@pytest.mark.parametrize("tag", ["../../../etc/evil", "..", ".hidden", "x" * 200])
def test_a_tag_that_is_no_name_of_a_container_makes_no_folder(
    host: SyslogHost, send: Callable[..., str], tag: str
) -> None:
    folders = set(host.run("find", "/var/log", "/etc", "-type", "d").splitlines())
    send([f"uwsgi: from {tag}"], tag=tag)
    assert without_stamp(host.files("unknown")["uwsgi.log"][-1]) == f"info from {tag}"
    made = set(host.run("find", "/var/log", "/etc", "-type", "d").splitlines()) - folders
    assert made <= {"/var/log/unknown", "/var/log/unknown/.dockerable"}


def test_the_longest_name_of_a_container_that_compose_makes_is_kept(host: SyslogHost, send: Callable[..., str]) -> None:
    name = f"{unique('long')}_{'p' * 60}.web-1"
    assert send(["uwsgi: here"], name=name) == name
    assert without_stamp(host.files(name)["uwsgi.log"][0]) == "info here"


@pytest.mark.parametrize(
    ("suffix", "kept"),
    [("_run_0123456789a{}", ""), ("-run-0123456789a{}", ""), ("_run_1", "_run_1"), ("_run_web_1", "_run_web_1")],
)
def test_the_one_offs_of_a_service_share_a_folder(
    host: SyslogHost, send: Callable[..., str], suffix: str, kept: str
) -> None:
    service = unique("prod_web")
    for line in "12":
        send([f"django: {line}"], tag=f"{service}{suffix.format(line)}")
    assert [without_stamp(line) for line in host.files(f"{service}{kept}")["django.log"]] == ["info 1", "info 2"]
    assert host.shell(f"ls /var/log | grep {service}") == f"{service}{kept}"


@pytest.mark.parametrize("way", ["address", "dev_log"])
def test_a_long_line_stays_one(host: SyslogHost, send: Callable[..., str], way: str) -> None:
    lines = [letter * size for letter, size in (("a", 7_500), ("b", 9_000), ("c", 16_000))]
    found = host.files(send([f"django: {line}" for line in lines], address=getattr(host, way)))
    # Docker itself cuts at 16 KiB.
    assert [without_stamp(line) for line in found["django.log"]] == [f"info {line}" for line in lines]


@pytest.mark.parametrize("way", ["address", "dev_log"])
def test_the_hosts_own_log_has_nothing_of_it(host: SyslogHost, send: Callable[..., str], way: str) -> None:
    word = unique("word")
    lines = [f"django: {word}", f"../x: {word}", f'{{"event.dataset":"django","message":"{word}"}}']
    name = send(lines, address=getattr(host, way))
    host.run("logger", "-u", "/var/lib/dockerable/dev/dev-log", "-p", "local0.info", "the host's own")
    wait_until(lambda: "the host's own" in host.read("/var/log/syslog"))
    found = host.shell(f"grep -rl {word} /var/log").split()
    assert set(found) == {f"/var/log/{name}/django.log", f"/var/log/{name}/other.log"}


def test_files_are_for_root_and_the_group_adm_only(host: SyslogHost, send: Callable[..., str]) -> None:
    name = send(["django: x"])
    told = host.run("stat", "-c", "%a %U %G", f"/var/log/{name}", f"/var/log/{name}/django.log")
    assert told.splitlines() == ["750 root adm", "640 root adm"]
    assert host.run("stat", "-c", "%a", "/var/lib/dockerable") == "700"
