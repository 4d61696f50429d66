"""certificate: gets, keeps, renews and tells about the site's certificate.

Usage: certificate                    supervised: serves the best there is, gets better, renews in time, for ever
       certificate install            give nginx the best there is now, and reload it where that is another
       certificate renew              get another now, due or not, whatever the time of the next try
       certificate status [--json]    what is stored and served, the last attempt and the next
Reads: the variables of environment.py. Writes: /run/tls, /run/certificate.json, /etc/letsencrypt
Exits: 0; 1 renew failed; 64 wrong usage or HTTPS is off; 65 the own certificate is unusable.
"""

import datetime
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

from dockerable.certificates import lineage, orders, pairs, served, status
from dockerable.certificates.backoff import Attempts, retry_after
from dockerable.certificates.clock import now, rfc3339
from dockerable.certificates.diagnosis import diagnose
from dockerable.certificates.pairs import Broken
from dockerable.certificates.request import Request
from dockerable.container import environment

PID = Path("/run/nginx.pid")
CONFIGURATION = "/run/nginx/nginx.conf"
# How often a certificate's lifetime certbot is asked whether to renew, which also asks the authority (ARI).
CHECKS_A_LIFETIME = 50
MOST_SECONDS_BETWEEN_CHECKS = 12 * 3600
LEAST_SECONDS_BETWEEN_CHECKS = 5
# Seconds between two looks at the files, and at what nginx serves.
LOOK, ASK = 5.0, 60.0
# An own certificate's expiry is told of once a day from so many days before.
WARN_DAYS = 21


told: dict[str, str] = {}


def log(message: str) -> None:
    # stdout is the object for `status` and `renew`; certbot calls it an error when a hook writes to stderr.
    stream = sys.stderr if sys.argv[1:2] in (["status"], ["renew"]) else sys.stdout
    # PID 1 tags what goes to its FIFO.
    tag = "certificate: " if sys.argv[1:] not in ([], ["install"]) else ""
    print(f"{tag}{message}", file=stream, flush=True)


def load() -> tuple[Request, dict[str, str]]:
    """The request and the checked variables; ends with 64 where HTTPS is off or a variable is wrong."""
    report = environment.read()
    if report.errors or report.values["USE_SSL"] != "on":
        log("error: " + "; ".join([text for _, text in report.errors] or ["USE_SSL is off"]))
        sys.exit(64)
    return Request.of(report.values), report.values


def reload_nginx() -> bool:
    """nginx -t, then SIGHUP. Returns whether it was told to reload."""
    if not PID.exists():
        return False
    tested = subprocess.run(
        ["/usr/sbin/nginx", "-e", "stderr", "-t", "-q", "-c", CONFIGURATION],
        capture_output=True,
        text=True,
        check=False,
    )
    if tested.returncode:
        log(f"error: nginx refuses its configuration, it serves on with the old one: {tested.stderr.strip()}")
        return False
    with suppress(OSError, ValueError):
        os.kill(int(PID.read_text()), signal.SIGHUP)
        return True
    return False


def install(request: Request) -> bool:
    """Give nginx the best there is, and say so. Returns whether it is another than before."""
    pair, problem = served.best(request)
    if request.own and problem != told.get("problem", ""):
        told["problem"] = problem
        if problem:
            log(f"error: {request.own[0]} {problem}")
    if problem and request.own and pair.temporary:
        sys.exit(65)
    if not served.install(pair):
        return False
    reload_nginx()
    tell_served()
    return True


def tell_served() -> str:
    """One line on what nginx was given, each time that it is another. Returns its fingerprint."""
    pair = served.in_use()
    if pair is None:
        return ""
    if told.get("fingerprint") != pair.fingerprint:
        told["fingerprint"] = pair.fingerprint
        what = "a temporary certificate" if pair.temporary else f"a certificate of {pairs.issuer_of(pair.leaf)}"
        log(f"nginx has {what} for {' '.join(pair.names)}, valid until {rfc3339(pair.leaf.not_valid_after_utc)}")
    return pair.fingerprint


def attempt(request: Request, values: dict[str, str], *, asked: bool = False) -> bool:
    """Run certbot: for a new certificate where there is a reason to, else to renew when it is time or `asked` for."""
    before = lineage.stored_leaf(request)
    with orders.alone() as lock:
        attempts = Attempts.load(request)
        if asked and lineage.stored_leaf(request) != before:
            log("another has renewed it in the meantime")
            return True
        if not asked and now().timestamp() < attempts.next:
            return False
        return run_certbot(request, values, attempts, lock, asked)


def run_certbot(request: Request, values: dict[str, str], attempts: Attempts, lock: int, asked: bool) -> bool:
    """One attempt, remembered whether it ends well, badly or not at all."""
    attempts.begin()
    why = lineage.why_reissue(request)
    command = orders.issue_command(request, values) if why else orders.renew_command(request, now=asked)
    if why:
        log(f"{why}; asking {request.server}")
        for finding in diagnose(request, values):
            log(f"note: {finding}")
        set_aside_broken(request)
    good, output = orders.run(command, lock)
    if not good and orders.account_is_lost(output):
        log("the authority does not know our account any more; registering another")
        orders.forget_account(request)
        # `renew` would insist on the account that the lineage was made with.
        good, output = orders.run(orders.issue_command(request, values), lock)
    if good and (why := lineage.why_reissue(request)):
        # The next one would be no better, and asking for it at once would never end.
        good, output = False, f"certbot got one, and yet {why}"
    if good:
        attempts.succeeded()
    else:
        attempts.failed(orders.reason(output), retry_after())
        log(f"error: no certificate: {attempts.error}; next try at {rfc3339(attempts.next)}")
    install(request)
    return good


def set_aside_broken(request: Request) -> None:
    """Move out of certbot's way what it could not use."""
    try:
        lineage.renewal_configuration(request)
        lineage.stored(request)
    except Broken:
        if aside := lineage.set_aside(request):
            log(f"what is stored is kept in {aside}")


def check_interval(lifetime: datetime.timedelta) -> float:
    """Seconds between two questions whether to renew: 12 hours at 90 days, under 3 at 6 days."""
    seconds = lifetime.total_seconds() / CHECKS_A_LIFETIME
    return max(LEAST_SECONDS_BETWEEN_CHECKS, min(seconds, MOST_SECONDS_BETWEEN_CHECKS))


def keep(request: Request, values: dict[str, str]) -> None:
    """The program: for ever, look, act, tell."""
    next_check = next_ask = 0.0
    if pair := served.in_use():
        told["fingerprint"] = pair.fingerprint  # cmd.sh told of it
    while True:
        install(request)
        # Somebody else may have run certbot.
        tell_served()
        if request.own:
            watch(request, request.own[0])
        else:
            why = lineage.why_reissue(request)
            wanted = orders.authenticator(request, values)
            if not why and lineage.use_authenticator(request, wanted):
                log(f"the stored certificate will be renewed by {wanted['authenticator']} from now on")
            attempts = Attempts.load(request)
            if now().timestamp() >= attempts.next and (why or time.monotonic() >= next_check):
                attempt(request, values)
                with suppress(Broken):
                    next_check = time.monotonic() + check_interval(lineage.stored(request).lifetime)
                next_ask = 0.0
        if time.monotonic() >= next_ask:
            next_ask = time.monotonic() + ASK
            found, given = status.find(request), served.in_use()
            status.write(found)
            if found.served and given and found.served.serial != f"{given.leaf.serial_number:x}":
                log("nginx serves another certificate than it was given: reloading it")
                reload_nginx()
        time.sleep(LOOK)


def watch(request: Request, file: Path) -> None:
    """Tell once a day what only the owner of the certificate in `file` can mend."""
    pair = served.in_use()
    if pair is None or told.get("watched") == (today := f"{now():%F} {pair.fingerprint}"):
        return
    told["watched"] = today
    if missing := pair.uncovered(request.names):
        log(f"warning: {file} does not cover {', '.join(missing)}")
    left = pair.leaf.not_valid_after_utc - now()
    if pair.expired:
        log(f"warning: {file} has expired on {rfc3339(pair.leaf.not_valid_after_utc)}: replace it")
    elif left.days < WARN_DAYS:
        log(f"warning: {file} expires in {left.days} days: replace it")


def settle(request: Request) -> None:
    """Wait until nginx has taken over what it was given, a few seconds at most."""
    given = served.in_use()
    for _ in range(50):
        if given is None or served.ask_nginx(request) == given.leaf:
            return
        time.sleep(0.1)


def stop(*_: object) -> None:
    """An order that is cut short is repeated; nothing that certbot writes is used before it is checked."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.killpg(0, signal.SIGKILL)


def wait_for_nginx() -> None:
    for _ in range(100):
        if PID.exists() and served.in_use():
            return
        time.sleep(0.1)


def main(command: list[str]) -> int:
    os.umask(0o007)
    request, values = load()
    if command == ["install"]:
        install(request)
    elif command == ["renew"]:
        if request.own:
            log(f"{request.own[0]} is yours: nothing to renew")
            return 64
        good = attempt(request, values, asked=True)
        settle(request)
        found = status.find(request)
        status.write(found)
        print(found.json())
        return 0 if good else 1
    elif command[:1] == ["status"] and command[1:] in ([], ["--json"]):
        found = status.find(request)
        print(found.json() if command[1:] else found.text())
    elif not command:
        signal.signal(signal.SIGTERM, stop)
        wait_for_nginx()
        keep(request, values)
    else:
        log("error: usage: certificate [install | renew | status [--json]]")
        return 64
    return 0
