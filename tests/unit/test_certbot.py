"""What stands before certbot: refusals, one at a time, an end after two hours, what it makes open to the group."""

import fcntl
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from dockerable.certificates import certbot
from dockerable.container import places, refuse_root
from tests.support.docker import ROOT
from tests.support.wait import wait_until

# SIGALRM, by which tests are otherwise ended, is the program's own here.
pytestmark = pytest.mark.timeout(60, method="thread")
NOTE = 'echo "$*" >>{place}/calls; env >{place}/env; ls -l /proc/$$/fd >{place}/fds'
# Leaves nothing behind for long where the shell is killed.
FOR_EVER = "while :; do sleep 0.1; done"
# The program in a process of its own, which can be sent signals.
MAIN = """
import os, sys
from pathlib import Path
from dockerable.certificates import certbot
from dockerable.container import places
place = Path(sys.argv[1])
places.LETSENCRYPT, places.CERTBOT, places.WEBROOT = place / "letsencrypt", place / "run", place / "webroot"
certbot.PROGRAM, certbot.KILL_AFTER = (str(place / "certbot"),), float(sys.argv[2])
os.geteuid = lambda: 1000
sys.exit(certbot.main(["renew"]))
"""


def heed_signals() -> None:
    """Restore the signals that a shell has told its background jobs to ignore: these tests may be one."""
    for one in certbot.SIGNALS:
        signal.signal(one, signal.SIG_DFL)


@dataclass
class Host:
    """A folder with what certbot finds in the container, and a shell script in its place."""

    place: Path
    processes: "list[subprocess.Popen[str]]" = field(default_factory=list)

    def script(self, *lines: str) -> None:
        """What certbot does; first it notes its arguments, its environment and its descriptors."""
        file = self.place / "certbot"
        file.write_text("\n".join(["#!/bin/sh", NOTE, *lines, ""]).format(place=self.place))
        file.chmod(0o755)

    def noted(self, name: str) -> str:
        """What it noted; empty where it was not run."""
        file = self.place / name
        return file.read_text() if file.exists() else ""

    def start(self, kill_after: float = 10, prefix: tuple[str, ...] = ()) -> "subprocess.Popen[str]":
        """Run it as a process of its own."""
        command = [*prefix, sys.executable, "-c", MAIN, str(self.place), str(kill_after)]
        null = subprocess.DEVNULL
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            stdin=null,
            stdout=null,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            preexec_fn=heed_signals,
        )
        self.processes.append(process)
        return process

    def lock_is_free(self) -> bool:
        with (places.CERTBOT / "lock").open("a") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
        return True


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    monkeypatch.setattr(places, "LETSENCRYPT", tmp_path / "letsencrypt")
    monkeypatch.setattr(places, "CERTBOT", tmp_path / "run")
    monkeypatch.setattr(places, "WEBROOT", tmp_path / "webroot")
    monkeypatch.setattr(certbot, "PROGRAM", (str(tmp_path / "certbot"),))
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    places.LETSENCRYPT.mkdir()
    places.WEBROOT.symlink_to(tmp_path / "webroot in run")
    for name in ("ACME_CA_BUNDLE", "ACME_EAB_KID", "ACME_EAB_HMAC_FILE", "REQUESTS_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    handlers = {one: signal.getsignal(one) for one in certbot.SIGNALS}
    mask = os.umask(0o022)
    made = Host(tmp_path)
    made.script()
    yield made
    os.umask(mask)
    for one, handler in handlers.items():
        signal.signal(one, handler)
    for process in made.processes:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def test_uid_0_is_refused(host: Host, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert certbot.main(["renew"]) == 64
    assert capsys.readouterr() == ("", f"certbot: error: {refuse_root.MESSAGE}\n")
    assert host.noted("calls") == ""


def test_a_folder_that_cannot_be_written_is_refused(host: Host, capsys: pytest.CaptureFixture[str]) -> None:
    places.LETSENCRYPT.rmdir()
    assert certbot.main(["renew"]) == 73
    assert capsys.readouterr().err == f"certbot: error: {places.LETSENCRYPT} cannot be written by uid 1000\n"
    assert host.noted("calls") == ""


def test_a_run_that_cannot_be_written_is_refused_with_the_remedy(
    host: Host, capsys: pytest.CaptureFixture[str]
) -> None:
    places.CERTBOT.write_text("")
    assert certbot.main(["renew"]) == 73
    said = capsys.readouterr().err
    assert said.startswith(f"certbot: error: {places.CERTBOT} cannot be written: Not a directory (remedy: room in /run")


@pytest.mark.parametrize(("script", "status"), [("exit 0", 0), ("exit 3", 3), ("kill -9 $$", 137), ("kill $$", 143)])
def test_certbot_is_given_the_arguments_and_its_status_passed_on(host: Host, script: str, status: int) -> None:
    host.script(script)
    assert certbot.main(["renew", "--dry-run", "a b"]) == status
    assert host.noted("calls") == "renew --dry-run a b\n"
    assert host.lock_is_free()


def test_what_it_expects_is_there(host: Host) -> None:
    assert certbot.main([]) == 0
    made = [places.CERTBOT / "work", places.CERTBOT / "log", host.place / "webroot in run"]
    assert [folder.stat().st_mode & 0o777 for folder in made] == [0o770] * 3


@pytest.mark.parametrize(("bundle", "found"), [("/pki/ca.pem", True), ("", False), (None, False)])
def test_a_private_authority_is_believed(
    host: Host, monkeypatch: pytest.MonkeyPatch, bundle: str | None, found: bool
) -> None:
    if bundle is not None:
        monkeypatch.setenv("ACME_CA_BUNDLE", bundle)
    certbot.main([])
    assert ("REQUESTS_CA_BUNDLE=/pki/ca.pem\n" in host.noted("env")) is found
    assert ("REQUESTS_CA_BUNDLE" in host.noted("env")) is found


def test_an_external_account_is_told_by_a_file(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    (host.place / "hmac").write_text("c2VjcmV0\n\n")
    monkeypatch.setenv("ACME_EAB_KID", "kid-1")
    monkeypatch.setenv("ACME_EAB_HMAC_FILE", str(host.place / "hmac"))
    assert certbot.main(["certonly"]) == 0
    file = places.CERTBOT / "eab.ini"
    assert host.noted("calls") == f"certonly --config {file}\n"
    assert file.read_text() == "eab-kid = kid-1\neab-hmac-key = c2VjcmV0\n"
    assert file.stat().st_mode & 0o777 == 0o660
    assert "c2VjcmV0" not in host.noted("env")


@pytest.mark.parametrize("file", [None, "/nowhere"])
def test_an_account_that_exists_needs_no_key_any_more(
    host: Host, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], file: str | None
) -> None:
    monkeypatch.setenv("ACME_EAB_KID", "kid-1")
    if file:
        monkeypatch.setenv("ACME_EAB_HMAC_FILE", file)
    assert certbot.main(["renew"]) == 0
    assert (places.CERTBOT / "eab.ini").read_text() == "eab-kid = kid-1\neab-hmac-key = \n"
    assert capsys.readouterr().err == "certbot: ACME_EAB_HMAC_FILE cannot be read: No such file or directory\n"


def test_while_another_runs_it_is_refused_in_the_end(
    host: Host, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert certbot.PATIENCE == 300
    monkeypatch.setattr(certbot, "PATIENCE", 0.1)
    places.CERTBOT.mkdir()
    with (places.CERTBOT / "lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert certbot.main(["renew"]) == 75
    assert capsys.readouterr().err == "certbot: error: another certbot has been running for five minutes\n"
    assert host.noted("calls") == ""


def test_another_that_ends_is_waited_for(host: Host) -> None:
    places.CERTBOT.mkdir()
    with (places.CERTBOT / "lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        timer = threading.Timer(0.2, lambda: fcntl.flock(lock, fcntl.LOCK_UN))
        timer.start()
        assert certbot.main(["renew"]) == 0
        assert timer.finished.is_set()
    assert host.noted("calls") == "renew\n"


def test_certbot_gets_the_descriptors_given_but_not_the_lock(host: Host) -> None:
    with (host.place / "attempt.lock").open("a") as given:
        os.set_inheritable(given.fileno(), True)
        assert certbot.main([]) == 0
    assert f"-> {host.place}/attempt.lock" in host.noted("fds")
    assert f"-> {places.CERTBOT}/lock" not in host.noted("fds")


@pytest.mark.parametrize(
    ("script", "status"),
    [("exec sleep 60", 124), (f"trap 'exit 0' TERM; {FOR_EVER}", 124), (f"trap '' TERM; {FOR_EVER}", 137)],
)
def test_an_order_that_never_ends_is_ended(
    host: Host, monkeypatch: pytest.MonkeyPatch, script: str, status: int
) -> None:
    assert (certbot.LIMIT, certbot.KILL_AFTER) == (7200, 10)
    monkeypatch.setattr(certbot, "LIMIT", 0.3)
    monkeypatch.setattr(certbot, "KILL_AFTER", 0.3)
    host.script("touch {place}/letsencrypt/key; chmod 600 {place}/letsencrypt/key", script)
    assert certbot.main([]) == status
    assert (places.LETSENCRYPT / "key").stat().st_mode & 0o777 == 0o660
    assert host.lock_is_free()


@pytest.mark.parametrize("status", [0, 1])
def test_what_certbot_made_is_open_to_the_group_also_where_it_failed(host: Host, status: int) -> None:
    outside = host.place / "outside"
    outside.write_text("")
    outside.chmod(0o600)
    host.script(
        "cd {place}/letsencrypt",
        "mkdir -m 700 archive hooks; touch archive/key hooks/hook cli.ini; ln -s {place}/outside archive/link",
        "chmod 600 archive/key; chmod 700 hooks/hook; chmod 444 cli.ini",
        f"exit {status}",
    )
    assert certbot.main([]) == status
    names = ("archive", "archive/key", "hooks/hook", "cli.ini")
    modes = [(places.LETSENCRYPT / name).stat().st_mode & 0o777 for name in names]
    assert modes == [0o770, 0o660, 0o770, 0o464]
    assert outside.stat().st_mode & 0o777 == 0o600


def test_what_it_makes_is_closed_to_others(host: Host) -> None:
    host.script("touch {place}/letsencrypt/file")
    certbot.main([])
    assert (places.LETSENCRYPT / "file").stat().st_mode & 0o777 == 0o660


@pytest.mark.parametrize(("number", "got"), [(signal.SIGTERM, "TERM\n"), (signal.SIGINT, "INT\n")])
def test_a_signal_ends_certbot_and_then_this_program(host: Host, number: int, got: str) -> None:
    host.script(
        "touch {place}/letsencrypt/key; chmod 600 {place}/letsencrypt/key",
        *(f"trap 'echo {name} >>{{place}}/got; exit 1' {name}" for name in ("TERM", "INT")),
        "touch {place}/ready",
        FOR_EVER,
    )
    process = host.start()
    wait_until(lambda: (host.place / "ready").exists())
    assert not host.lock_is_free()
    process.send_signal(number)
    assert process.communicate(timeout=20) == (None, "")
    assert process.returncode == 128 + number
    assert host.noted("got") == got
    assert (places.LETSENCRYPT / "key").stat().st_mode & 0o777 == 0o660
    assert host.lock_is_free()


def test_a_signal_at_certbot_s_start_ends_it_too(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    host.script("exec sleep 30")
    started = []
    popen = subprocess.Popen

    def start(*arguments: Any, **options: Any) -> "subprocess.Popen[bytes]":
        started.append(popen(*arguments, **options))
        os.kill(os.getpid(), signal.SIGTERM)
        return started[0]

    with monkeypatch.context() as patched:
        patched.setattr(certbot.subprocess, "Popen", start)
        patched.setattr(certbot, "open_to_group", lambda: None)
        status = certbot.main(["renew"])
    ended = started[0].poll()
    started[0].kill()
    started[0].wait()
    assert (status, ended) == (128 + signal.SIGTERM, -signal.SIGTERM)
    assert host.lock_is_free()


def test_a_signal_after_certbot_s_end_leaves_nothing_closed_to_the_group(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.script("touch {place}/letsencrypt/key; chmod 600 {place}/letsencrypt/key")
    run = subprocess.run

    def signalled(*arguments: Any, **options: Any) -> "subprocess.CompletedProcess[bytes]":
        os.kill(os.getpid(), signal.SIGTERM)
        return run(*arguments, **options)

    monkeypatch.setattr(certbot.subprocess, "run", signalled)
    assert certbot.main(["renew"]) == 128 + signal.SIGTERM
    assert (places.LETSENCRYPT / "key").stat().st_mode & 0o777 == 0o660


def test_a_certbot_that_a_signal_does_not_end_is_killed_also_where_signals_follow(host: Host) -> None:
    host.script("trap '' TERM INT; touch {place}/deaf", FOR_EVER)
    process = host.start(kill_after=1)
    wait_until(lambda: (host.place / "deaf").exists())
    process.send_signal(signal.SIGINT)
    for _ in range(3):
        process.send_signal(signal.SIGTERM)
    assert process.communicate(timeout=20) == (None, "")
    assert process.returncode == 128 + signal.SIGINT
    assert host.lock_is_free()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_wait_for_another(host: Host, number: int) -> None:
    places.CERTBOT.mkdir()
    with (places.CERTBOT / "lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        process = host.start()
        wait_until(lambda: f"-> {lock.name}" in descriptors(process.pid))
        wait_until(lambda: waits_for_lock(process.pid))
        process.send_signal(number)
        assert process.communicate(timeout=20) == (None, "")
    assert process.returncode == 128 + number
    assert host.noted("calls") == ""


def descriptors(pid: int) -> str:
    return subprocess.run(["ls", "-l", f"/proc/{pid}/fd"], capture_output=True, text=True).stdout


def waits_for_lock(pid: int) -> bool:
    return f" {pid} " in "".join(line for line in Path("/proc/locks").read_text().splitlines() if "->" in line)


def test_what_was_started_to_outlive_a_terminal_does(host: Host) -> None:
    host.script("touch {place}/begun; sleep 0.5")
    process = host.start(prefix=("nohup",))
    wait_until(lambda: (host.place / "begun").exists())
    process.send_signal(signal.SIGHUP)
    assert process.communicate(timeout=20) == (None, "")
    assert process.returncode == 0


def test_its_start_imports_little() -> None:
    heavy = ("cryptography", "configobj", "ssl", "email", "asyncio", "dataclasses")
    code = f"import sys, dockerable.certificates.certbot; print([one for one in {heavy} if one in sys.modules])"
    done = subprocess.run([sys.executable, "-S", "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
