"""Of the containers that mount one /etc/letsencrypt, one orders and renews; another takes over when it is gone."""

import errno
import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from dockerable.certificates import certbot, owner, program
from dockerable.certificates.owner import Owner
from dockerable.container import places
from tests.support.acme import DIRECTORY
from tests.support.certificate_host import Host, Lines
from tests.support.certificates import NAMES, lineage
from tests.support.docker import ROOT

# A container of its own: it shares LETSENCRYPT, has a /run of its own, becomes the owner and says so.
OTHER = """
import sys, time
from pathlib import Path
from dockerable.certificates.owner import Owner
from dockerable.container import places
places.LETSENCRYPT, places.CERTBOT = Path(sys.argv[1]), Path(sys.argv[2])
one = Owner()
print(repr(one.other()), flush=True)
time.sleep(60)
"""
Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start(host: Host) -> Iterator[Start]:
    """Starts a process that becomes the owner; without a name it is one of this container."""
    started: list[subprocess.Popen[str]] = []

    def begin(name: str = "") -> "subprocess.Popen[str]":
        run = host.place / name if name else places.CERTBOT
        command = [sys.executable, "-c", OTHER, str(places.LETSENCRYPT), str(run)]
        started.append(subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True))
        assert started[-1].stdout
        assert started[-1].stdout.readline() == "''\n"
        return started[-1]

    yield begin
    for process in started:
        with process:
            end(process)


def end(process: "subprocess.Popen[str]") -> None:
    process.kill()
    process.wait()


def store() -> Path:
    """Store another certificate in place of the one that is there. Gives the lineage's renewal configuration."""
    for name in ("live", "archive", "renewal"):
        shutil.rmtree(places.LETSENCRYPT / name, ignore_errors=True)
    return lineage(places.LETSENCRYPT, standalone=True).conf


@contextmanager
def another(name: str = "web-1") -> Iterator[None]:
    """Another container is the owner, of this host name."""
    with (places.LETSENCRYPT / "owner.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        lock.write(name)
        lock.flush()
        yield


def test_the_first_is_the_owner_and_the_next_when_it_is_killed(host: Host, start: Start) -> None:
    first = start("other")
    one, two = Owner(), Owner()
    assert one.other() == os.uname().nodename
    end(first)
    assert one.other() == ""
    # Another process of the same container is no other container.
    assert two.other() == ""
    assert (one.locks != [], two.locks) == (True, [])


def test_what_a_process_of_this_container_holds_is_held_here(host: Host, start: Start) -> None:
    start()
    assert Owner().other() == ""


def test_certbot_holds_it_on_where_its_caller_is_killed(host: Host, start: Start) -> None:
    one = Owner()
    one.other()
    child = subprocess.Popen(["sleep", "60"], pass_fds=one.locks)
    owner.close(one.locks)
    with (places.LETSENCRYPT / "owner.lock").open("a") as lock:
        with pytest.raises(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        child.kill()
        child.wait()
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_any_uid_of_the_group_may_be_the_next(host: Host) -> None:
    Owner().other()
    assert {place.stat().st_mode & 0o777 for place in places.LETSENCRYPT.iterdir()} == {0o660}


@pytest.mark.parametrize(
    ("written", "named"), [("", "unknown"), ("web-1\n", "web-1"), ("a\nerror: run this\0\x1b[0m", "aerrorrunthis0m")]
)
def test_the_name_of_another_cannot_forge_a_line(host: Host, written: str, named: str) -> None:
    with another(written):
        assert Owner().other() == named


def test_a_link_in_place_of_the_lock_is_not_written_through(host: Host, lines: Lines) -> None:
    (host.place / "key").write_text("kept")
    (places.LETSENCRYPT / "owner.lock").symlink_to(host.place / "key")
    one = Owner()
    assert (one.other(), one.problem) == ("", "Too many levels of symbolic links")
    assert (host.place / "key").read_text() == "kept"


def test_where_nothing_can_be_locked_it_orders_and_warns_once(
    host: Host, lines: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(owner.fcntl, "flock", refuse)
    one = host.program()
    assert one.is_owner() and one.is_owner()
    said = f"warning: {places.LETSENCRYPT} cannot be locked (No locks available): only one container may use it"
    assert lines() == [said]


def test_a_full_disk_costs_the_name_only(host: Host, start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "pwrite", refuse)
    one = Owner()
    assert (one.other(), one.problem, len(one.locks)) == ("", "", 2)


def test_the_other_serves_what_is_stored_says_so_once_and_takes_over(host: Host, lines: Lines) -> None:
    conf = store()
    before = conf.read_text()
    one = host.program()
    with another():
        one.look()
        one.look()
        assert host.calls() == []
        assert conf.read_text() == before
        assert [line.partition(", valid")[0] for line in lines()] == [
            "nginx has a certificate of CN=an authority for example.test www.example.test",
            f"container web-1 orders and renews in {places.LETSENCRYPT}: serving what it stores, until it is gone",
        ]
        # What the owner has renewed is served.
        store()
        reloads = host.reloads
        one.look()
        assert host.reloads == reloads + 1
        lines()
    one.look()
    assert f"container web-1 is gone: ordering and renewing in {places.LETSENCRYPT} from here on" in lines()
    assert [call.partition(" ")[0] for call in host.calls()] == ["renew"]
    one.look()
    assert lines() == []


def test_an_own_certificate_needs_no_owner(host: Host, lines: Lines) -> None:
    host.program(**host.own()).look()
    assert [*places.LETSENCRYPT.iterdir()] == []


def test_a_renewal_that_is_asked_for_is_refused_where_another_is_the_owner(
    host: Host, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    site = {"NGINX_SERVER_NAME": " ".join(NAMES), "USE_SSL": "on", "ACME_SERVER": DIRECTORY}
    for name, value in {**site, "DJANGO_SETTINGS_MODULE": "project.settings"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with another():
        assert program.main(["renew"]) == 75
    said = f"certificate: error: container web-1 orders and renews in {places.LETSENCRYPT}: ask it there\n"
    assert capsys.readouterr() == ("", said)
    assert host.calls() == []


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["renew"], 0, "nothing done: container web-1 renews what is in {folder}"),
        (["-n", "renew", "--force-renewal"], 0, "nothing done: container web-1 renews what is in {folder}"),
        ([], 75, "error: container web-1 orders and renews in {folder}: call certbot there"),
        (["certonly"], 75, "error: container web-1 orders and renews in {folder}: call certbot there"),
        (["delete"], 75, "error: container web-1 orders and renews in {folder}: call certbot there"),
        (["certificates"], 3, ""),
        (["renew", "--help"], 3, ""),
    ],
)
def test_what_cron_calls_does_nothing_where_another_is_the_owner(
    host: Host,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    status: int,
    said: str,
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(certbot, "run", lambda *_: 3)
    with another():
        assert certbot.run_alone(arguments, certbot.FirstSignal()) == status
    expected = f"certbot: {said.format(folder=places.LETSENCRYPT)}\n" if said else ""
    assert capsys.readouterr().err == expected
    # Where nobody is the owner, it is for the time of the command.
    assert certbot.run_alone(arguments, certbot.FirstSignal()) == 3
