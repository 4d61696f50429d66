"""certificate: gets, keeps, renews and tells about the site's certificate.

Usage: certificate                    supervised: serves the best there is, gets better, renews in time, for ever
       certificate install            give nginx the best there is now, and reload it where that is another
       certificate renew              get another now, due or not, whatever the time of the next try
       certificate status [--json]    what is stored and served, the last attempt and the next
Reads: the variables of environment.py. Writes: /run/tls, /run/certificate.json, /etc/letsencrypt
Exits: 0; 1 renew failed; 64 wrong usage or HTTPS is off; 65 the own certificate is unusable.

/run/certificate.json, and `status --json`, for other programs:
  names           list of the site's names
  state           "ok", "temporary" (no real one yet), "failing" (a real one, the last attempt failed),
                  "expired", or "different" (stored and served differ)
  source          "acme" or "own"
  stored, served  null, or an object: names, issuer, serial (hexadecimal), not_before, not_after (RFC 3339), days_left
  problem         what is wrong with the stored one, or ""
  last_attempt, next_attempt   RFC 3339 or null
  last_error      why the last attempt failed, or ""
"""

import datetime
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

from dockerable.certificates import lineage, orders, pairs, served
from dockerable.certificates.backoff import Attempts, retry_after
from dockerable.certificates.clock import now
from dockerable.certificates.diagnosis import diagnose
from dockerable.certificates.pairs import Broken
from dockerable.certificates.request import Request
from dockerable.container import environment

STATUS = Path("/run/certificate.json")
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
        what = "a temporary certificate" if pair.temporary else f"a certificate of {issuer(pair.leaf)}"
        log(f"nginx has {what} for {' '.join(pair.names)}, valid until {stamp(pair.leaf.not_valid_after_utc)}")
    return pair.fingerprint


def issuer(leaf) -> str:
    return leaf.issuer.rfc4514_string().replace("\\", "")


def stamp(time_: datetime.datetime | float) -> str | None:
    """RFC 3339 in UTC, to the second; None for 0."""
    if not time_:
        return None
    if isinstance(time_, float | int):
        time_ = datetime.datetime.fromtimestamp(time_, datetime.UTC)
    return time_.strftime("%Y-%m-%dT%H:%M:%SZ")


def describe(leaf) -> dict | None:
    if leaf is None:
        return None
    left = (leaf.not_valid_after_utc - now()).total_seconds() / 86400
    names = pairs.Pair(b"", b"", leaf).names
    return {
        "names": list(names),
        "issuer": issuer(leaf),
        "serial": f"{leaf.serial_number:x}",
        "not_before": stamp(leaf.not_valid_before_utc),
        "not_after": stamp(leaf.not_valid_after_utc),
        "days_left": round(left, 2),
    }


def status(request: Request) -> dict:
    """The object of the module's docstring."""
    attempts = Attempts.load(request)
    problem, leaf = "", None
    try:
        pair = pairs.Pair.read(*request.own) if request.own else lineage.stored(request)
        leaf = pair.leaf
        if missing := pair.uncovered(request.names):
            problem = f"does not cover {', '.join(missing)}"
    except Broken as reason:
        problem = str(reason)
    answered = served.ask_nginx(request)
    if answered is not None and pairs.Pair(b"", b"", answered).temporary:
        state = "temporary"
    elif leaf is not None and pairs.Pair(b"", b"", leaf).expired:
        state = "expired"
    elif leaf is not None and answered is not None and answered != leaf:
        state = "different"
    else:
        state = "failing" if attempts.error or problem else "ok"
    return {
        "names": list(request.names),
        "state": state,
        "source": "own" if request.own else "acme",
        "stored": describe(leaf),
        "served": describe(answered),
        "problem": problem,
        "last_attempt": stamp(attempts.last),
        "next_attempt": stamp(attempts.next),
        "last_error": attempts.error,
    }


def write_status(request: Request) -> dict:
    found = status(request)
    # Its own name: `renew` and the program may do this at the same moment.
    new = STATUS.with_suffix(f".{os.getpid()}")
    new.write_text(json.dumps(found, indent=1) + "\n")
    new.rename(STATUS)
    return found


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
        log(f"error: no certificate: {attempts.error}; next try at {stamp(attempts.next)}")
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
            answered, given = write_status(request)["served"], served.in_use()
            if answered and given and answered["serial"] != f"{given.leaf.serial_number:x}":
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
        log(f"warning: {file} has expired on {stamp(pair.leaf.not_valid_after_utc)}: replace it")
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
        print(json.dumps(write_status(request), indent=1))
        return 0 if good else 1
    elif command[:1] == ["status"] and command[1:] in ([], ["--json"]):
        found = status(request)
        print(json.dumps(found, indent=1) if command[1:] else text(found))
    elif not command:
        signal.signal(signal.SIGTERM, stop)
        wait_for_nginx()
        keep(request, values)
    else:
        log("error: usage: certificate [install | renew | status [--json]]")
        return 64
    return 0


def text(found: dict) -> str:
    """The status for people."""

    def pair(name: str) -> str:
        one = found[name]
        if one is None:
            return "none"
        return (
            f"{' '.join(one['names'])}, by {one['issuer']}, serial {one['serial']}, "
            f"until {one['not_after']} ({one['days_left']:.1f} days left)"
        )

    lines = [
        f"names         {' '.join(found['names'])}",
        f"state         {found['state']}",
        f"stored        {pair('stored')}",
        f"served        {pair('served')}",
        f"last attempt  {found['last_attempt'] or 'never'}",
        f"next attempt  {found['next_attempt'] or 'when it is time to renew'}",
    ]
    if found["problem"]:
        lines.append(f"problem       the stored certificate {found['problem']}")
    if found["last_error"]:
        lines.append(f"last error    {found['last_error']}")
    return "\n".join(lines)
