"""Certificates from a real ACME server: the first order, renewals, and events that must not cause an order."""

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from tests.support.acme import Pebble, TlsStack, Visitors, is_temporary
from tests.support.docker import docker
from tests.support.wait import wait_until

New = Callable[[Any], Any]
# The image has no pkill.
AT_LOCK = r"""
for process in /proc/[0-9]*; do
    tr '\0' ' ' <"$process/cmdline" | grep -q 'certificat[e] renew' &&
        ls -l "$process/fd" | grep -q /attempt.lock && echo "$process"
done 2>/dev/null; :
"""
KILL_RENEW = r"""
for process in /proc/[0-9]*; do
    if tr '\0' ' ' <"$process/cmdline" | grep -q 'certificat[e] renew'; then kill -9 "${process#/proc/}"; fi
done
"""
HOOK = "/etc/letsencrypt/renewal-hooks/deploy/left"
LEAVE_HOOK = f"""
mkdir -p {HOOK.rpartition("/")[0]} && printf '#!/bin/sh\necho ran >/run/hooked\n' >{HOOK} && chmod +x {HOOK}
"""
PROGRAM = ("sh", "-c", "supervisorctl pid certificate")


@pytest.fixture(scope="module")
def times() -> dict[str, float]:
    """Seconds from the container's start to what the test for it judges."""
    return {}


@pytest.fixture(scope="module")
def site(request: pytest.FixtureRequest, pebble: Pebble, times: dict[str, float]) -> Iterator[TlsStack]:
    """One site for the module, with the certificate that it got at its start."""
    stack = TlsStack(pebble)
    try:
        stack.start()
        first = wait_until(stack.served)
        times["first answer"] = stack.age()
        assert is_temporary(first)
        stack.real()
        times["real certificate"] = stack.age()
        stack.wait_healthy()
        yield stack
        assert not stack.trouble(), "unexpected in the log:\n" + "\n".join(stack.trouble())
    finally:
        print(stack.report())
        stack.remove()


def at_lock(site: TlsStack) -> list[str]:
    """The processes of `certificate renew` that have looked at what is stored and hold the lock or wait for it."""
    return site.exec("sh", "-c", AT_LOCK).split()


def checked(site: TlsStack) -> float:
    """When the program last asked certbot whether to renew; 0 while it is asking. Raises LookupError."""
    attempts: dict[str, Any] = json.loads(site.exec("cat", "/etc/letsencrypt/attempts.json"))
    return float(attempts["last"]) if not attempts["unfinished"] else 0


def test_first_answer_is_at_once_and_a_real_certificate_follows(site: TlsStack, times: dict[str, float]) -> None:
    print({what: f"{seconds:.2f} s" for what, seconds in times.items()})
    assert times["first answer"] < 15
    assert times["real certificate"] < 90
    assert site.ask()[0] == 200


def test_one_ecdsa_certificate_covers_all_names(site: TlsStack, pebble: Pebble) -> None:
    found = site.status()
    assert (found["state"], found["source"], found["last_error"]) == ("ok", "acme", "")
    assert found["stored"]["names"] == list(site.names)
    assert found["stored"] == found["served"]
    assert 89 < found["stored"]["days_left"] < 91
    assert "Pebble Intermediate" in found["stored"]["issuer"]
    assert isinstance(site.served().public_key(), ec.EllipticCurvePublicKey)
    assert {site.served(name).serial_number for name in site.names} == {int(found["stored"]["serial"], 16)}
    assert pebble.orders() == 1
    # Written when certbot has ended, after its hook has made nginx serve it.
    wait_until(lambda: json.loads(site.exec("cat", "/run/certificate.json", check=False))["stored"] == found["stored"])


@pytest.mark.parametrize("restarts", [2, pytest.param(20, marks=pytest.mark.slow)])
def test_restart_keeps_the_certificate(site: TlsStack, pebble: Pebble, restarts: int) -> None:
    serial, orders, posts = site.served().serial_number, pebble.orders(), pebble.logs().count(" POST ")
    for _ in range(restarts):
        before = checked(site)
        docker("restart", "-t", "45", site.name)
        wait_until(lambda: checked(site) > before)  # noqa: B023
        assert site.served().serial_number == serial
    assert pebble.orders() == orders
    assert pebble.logs().count(" POST ") == posts
    site.wait_healthy()


@pytest.mark.parametrize("command", ["certbot renew --force-renewal", "certificate renew"])
def test_renewal_loses_no_request(site: TlsStack, command: str) -> None:
    before = site.served().serial_number
    # What whoever broke in may have left: certbot's own renewals run it, the image's orders do not.
    site.exec("sh", "-c", LEAVE_HOOK)
    if command.startswith("certbot"):
        # certbot's own hook reloads nginx, not the program that looks at the files.
        site.exec("supervisorctl", "stop", "certificate")
    with Visitors(site) as visitors:
        site.exec(*command.split(" "))
        wait_until(lambda: visitors.serials[-1] != before)
    site.exec("supervisorctl", "start", "certificate")
    assert not visitors.failures
    assert len(visitors.serials) > 20
    # While nginx reloads, both are right.
    assert set(visitors.serials) == {before, site.served().serial_number}
    assert site.status()["state"] == "ok"
    hooked = site.exec("sh", "-c", f"rm {HOOK}; cat /run/hooked; rm /run/hooked", check=False)
    assert hooked == ("ran" if command.startswith("certbot") else "")


@pytest.mark.parametrize(("command", "orders"), [("certificate renew", 1), ("certbot renew --force-renewal", 2)])
def test_two_renewals_at_once_harm_nothing(site: TlsStack, pebble: Pebble, command: str, orders: int) -> None:
    before, serial = pebble.orders(), site.served().serial_number
    with pebble.held():
        start = ["docker", "exec", site.name, *command.split(" ")]
        both = [subprocess.Popen(start, stdout=subprocess.DEVNULL) for _ in range(2)]
        wait_until(lambda: site.processes(command.replace("certbot", "bin/certbot")) >= 2)
        if command.startswith("certificate"):
            wait_until(lambda: len(at_lock(site)) == 2)
        wait_until(lambda: site.processes("from certbot.main import main") >= 1)
    assert [one.wait(60) for one in both] == [0, 0]
    # The program notices a renewal by another process and skips its own; two runs of certbot itself both renew.
    assert pebble.orders() - before == orders
    wait_until(lambda: site.served().serial_number != serial)
    site.wait_ok()
    assert site.exec("certbot", "certificates").count("(VALID") == 1


def test_an_order_whose_program_was_killed_is_not_made_twice(site: TlsStack, pebble: Pebble) -> None:
    before, serial = pebble.orders(), site.served().serial_number
    renew = ["docker", "exec", site.name, "certificate", "renew"]
    first = subprocess.Popen(renew, stdout=subprocess.DEVNULL)
    pebble.wait_order(before)
    with pebble.held():
        site.exec("sh", "-c", KILL_RENEW)
        assert first.wait(20) == 137
        second = subprocess.Popen(renew, stdout=subprocess.DEVNULL)
        wait_until(lambda: len(at_lock(site)) == 1)
    assert second.wait(60) == 0
    assert pebble.orders() == before + 1
    wait_until(lambda: site.served().serial_number != serial)


def test_a_program_that_is_killed_again_and_again_does_not_end_the_container(site: TlsStack) -> None:
    site.allowed.append("certificate was killed by signal 9")
    started = site.state()["StartedAt"]
    for _ in range(4):
        pid = wait_until(lambda: int(site.exec(*PROGRAM, check=False) or 0), 30)
        site.exec("sh", "-c", f"kill -9 {pid}")
        assert site.ask()[0] == 200
    new = wait_until(lambda: int(site.exec(*PROGRAM, check=False) or 0), 30)
    assert new != pid
    wait_until(lambda: checked(site), 30)
    assert (site.state()["StartedAt"], site.state()["Status"]) == (started, "running")


def test_another_uid_goes_on_with_the_certificate_and_renews_it(site: TlsStack, pebble: Pebble, new_stack: New) -> None:
    serial, orders = site.served().serial_number, pebble.orders()
    same = TlsStack(pebble, letsencrypt=site.letsencrypt, volume=site.volume, options=["--user", "54321:0"])
    same.allowed.append("certificate: error: container .* orders and renews in /etc/letsencrypt")
    other = new_stack(same).start()
    first = site.exec("hostname")
    assert other.says(f"certbot: container {first} orders and renews in /etc/letsencrypt: serving what it stores")
    assert wait_until(other.served).serial_number == serial
    # As cron calls it in each container.
    assert other.exec("certbot", "renew", "--force-renewal") == ""
    assert other.exec("sh", "-c", "certificate renew 2>&1 || echo status $?").endswith("ask it there\nstatus 75")
    assert pebble.orders() == orders
    site.stop()
    try:
        assert other.says(f"certbot: container {first} is gone: ordering and renewing in /etc/letsencrypt from here on")
        other.wait_healthy()
        other.certificate("renew")
        wait_until(lambda: other.served().serial_number != serial)
        serial = other.served().serial_number
        assert pebble.orders() == orders + 1
        other.stop()
    finally:
        docker("start", site.name)
    assert wait_until(site.served).serial_number == serial
    site.wait_healthy()


ROOTS = """
for command in 'certificate renew' 'certificate install' certificate 'certbot certificates' \
    '/opt/dockerable/bin/certbot renew --force-renewal' \
    /opt/dockerable/bin/supervisord 'manage check' reload 'application --check' init \
    '/app/dockerable/cmd.sh nginx' '/app/dockerable/cmd.sh prepare_reload' /app/dockerable/cmd.sh; do
    said=$($command 2>&1) && status=0 || status=$?
    echo "$status $said"
done
"""
OF_ROOT = ("find", "/run", "/data", "/etc/letsencrypt", "/tmp", "-user", "0", "-newer", "/run/before")


def test_root_inside_is_refused_and_leaves_nothing(site: TlsStack, pebble: Pebble) -> None:
    orders = pebble.orders()
    site.exec("touch", "/run/before")
    lines = site.exec("sh", "-c", ROOTS, user="0").splitlines()
    assert len(lines) == 13
    assert [line for line in lines if not line.startswith("64 ") or "error: not as uid 0 (remedy: " not in line] == []
    # What only reads answers root as well.
    assert site.exec("healthcheck", user="0") == "healthy"
    assert "ok" in site.exec("certificate", "status", user="0")
    assert site.exec(*OF_ROOT) == ""
    assert pebble.orders() == orders
    # By its path it is the same program as by its name.
    assert site.exec("/opt/dockerable/bin/certbot", "certificates").count("(VALID") == 1
    site.certificate("renew")
    assert pebble.orders() == orders + 1


def test_external_account_binding(tmp_path: Path, new_pebble: New, new_stack: New) -> None:
    key = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W"
    config = {"externalAccountBindingRequired": True, "externalAccountMACKeys": {"kid-1": key}}
    server = new_pebble(Pebble(tmp_path / "pebble", config=config))
    (tmp_path / "hmac").write_text(f"{key}\n")
    (tmp_path / "hmac").chmod(0o640)
    os.chown(tmp_path / "hmac", -1, 0)
    bound = {"ACME_EAB_KID": "kid-1", "ACME_EAB_HMAC_FILE": "/run/secrets/hmac"}
    stack = new_stack(TlsStack(server, bound, mounts=[f"{tmp_path}/hmac:/run/secrets/hmac:ro"])).start()
    stack.real()
    assert key not in stack.logs()
    # The account is made; from now on the binding changes nothing.
    stack.certificate("renew")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_short_lived_certificates_are_renewed_in_time_by_themselves(
    tmp_path: Path, new_pebble: New, new_stack: New
) -> None:
    server = new_pebble(Pebble(tmp_path / "pebble", validity=120))
    stack = new_stack(TlsStack(server)).start()
    stack.real()
    stack.wait_healthy()
    with Visitors(stack) as visitors:
        seen, left = [], []
        for _ in range(2):
            certificate = stack.served()
            seen.append(certificate.serial_number)
            wait_until(lambda: stack.served().serial_number != seen[-1], 125, every=0.5)
            until = certificate.not_valid_after_utc
            left.append((until - stack.served().not_valid_before_utc).total_seconds())
    print("seconds left when the next one came:", left)
    assert min(left) > 20
    assert not visitors.failures
    assert 3 <= server.orders() <= 6
