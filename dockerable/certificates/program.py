"""certificate: gets, keeps, renews and tells about the site's certificate.

Usage: certificate                    supervised: serves the best there is, gets better, renews in time, for ever
       certificate install            give nginx the best there is now, and reload it where that is another
       certificate renew              get another now, due or not, whatever the time of the next try
       certificate status [--json]    what is stored and served, the last attempt and the next
Reads: the container's variables (environment.py). Writes: /run/tls, /run/certificate.json, /etc/letsencrypt
Exits: 0; 1 renew failed; 64 wrong usage or HTTPS is off; 65 the own certificate is unusable.
"""

import datetime
import os
import signal
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from dockerable.certificates import clock, lineage, orders, pairs, served, status
from dockerable.certificates.backoff import Attempts, retry_after
from dockerable.certificates.log import log, start_log
from dockerable.certificates.pairs import Broken
from dockerable.certificates.request import Request
from dockerable.container import environment, nginx, places
from dockerable.container.exit_status import BAD_DATA, USAGE

# How often a certificate's lifetime certbot is asked whether to renew, which also asks the authority (ARI).
CHECKS_A_LIFETIME = 50
MOST_SECONDS_BETWEEN_CHECKS = 12 * 3600
LEAST_SECONDS_BETWEEN_CHECKS = 5
# Seconds between two looks at the files, and at what nginx serves.
LOOK, ASK = 5.0, 60.0
# An own certificate's expiry is told of once a day from so many days before.
WARN_DAYS = 21
# Seconds to wait for nginx: for its start, and until it serves what it was given.
STARTING, SETTLING = 10.0, 5.0


class Refused(Exception):
    """The program ends here: an exit status, and what to say if it has not been said."""

    def __init__(self, status: int, message: str = "") -> None:
        super().__init__(message)
        self.status = status


def load() -> tuple[Request, Mapping[str, str]]:
    """What is wanted, and the checked variables. Raises Refused where HTTPS is off or a variable is wrong."""
    report = environment.read()
    if report.errors or report.values["USE_SSL"] != "on":
        raise Refused(USAGE, "; ".join([text for _, text in report.errors] or ["USE_SSL is off"]))
    return Request.of(report.values), report.values


class Program:
    """One site's certificate: keeps the best one served, gets better ones, and logs each change once."""

    def __init__(self, request: Request, values: Mapping[str, str]) -> None:
        self.request, self.values = request, values
        # What was logged last: a problem of the own certificate, which pair nginx has, a day's warnings.
        self.problem = self.fingerprint = self.warned = ""
        # Monotonic seconds: the next question to certbot whether to renew, and to nginx what it serves.
        self.next_check = self.next_ask = 0.0

    def keep(self) -> NoReturn:
        """Main loop: every LOOK seconds install the best pair, renew when due, publish the status."""
        if pair := served.in_use():
            self.fingerprint = pair.fingerprint  # the container's start has logged it
        while True:
            self.look()
            time.sleep(LOOK)

    def look(self) -> None:
        """One round of the main loop. Raises Refused where the own certificate and what is served are unusable."""
        self.install()
        # certbot may have been run by somebody else, and its hook has installed the pair.
        self.log_served()
        if self.request.own:
            self.warn_of_own(self.request.own[0])
        else:
            self.renew_when_due()
        if time.monotonic() >= self.next_ask:
            self.next_ask = time.monotonic() + ASK
            self.publish()

    def install(self) -> bool:
        """Give nginx the best there is. Returns whether it is another than before.

        Raises Refused where the own certificate cannot be used and there is only a temporary one in its place.
        """
        pair, problem = served.best(self.request)
        if self.request.own and problem != self.problem:
            self.problem = problem
            if problem:
                log.error("%s %s", self.request.own[0], problem)
        if problem and self.request.own and pair.temporary:
            raise Refused(BAD_DATA)
        if not served.install(pair):
            return False
        reload_nginx()
        self.log_served()
        return True

    def log_served(self) -> None:
        """One line on what nginx was given, each time that it is another."""
        pair = served.in_use()
        if pair is None or pair.fingerprint == self.fingerprint:
            return
        self.fingerprint = pair.fingerprint
        what = "a temporary certificate" if pair.temporary else f"a certificate of {pairs.issuer_of(pair.leaf)}"
        until = clock.rfc3339(pair.leaf.not_valid_after_utc)
        log.info("nginx has %s for %s, valid until %s", what, " ".join(pair.names), until)

    def warn_of_own(self, file: Path) -> None:
        """Warn once a day of what only the owner of the certificate in `file` can mend."""
        pair = served.in_use()
        if pair is None or self.warned == (today := f"{clock.now():%F} {pair.fingerprint}"):
            return
        self.warned = today
        if missing := pair.uncovered(self.request.names):
            log.warning("%s does not cover %s", file, ", ".join(missing))
        left = pair.leaf.not_valid_after_utc - clock.now()
        if pair.expired:
            log.warning("%s has expired on %s: replace it", file, clock.rfc3339(pair.leaf.not_valid_after_utc))
        elif left.days < WARN_DAYS:
            log.warning("%s expires in %d days: replace it", file, left.days)

    def renew_when_due(self) -> None:
        """Make an attempt where the certificate must be replaced, or certbot be asked again whether to renew it."""
        why = lineage.why_reissue(self.request)
        wanted = orders.authenticator(self.request, self.values)
        if not why and lineage.use_authenticator(self.request, wanted):
            log.info("the stored certificate will be renewed by %s from now on", wanted["authenticator"])
        due = clock.now().timestamp() >= Attempts.load(self.request).next
        if due and (why or time.monotonic() >= self.next_check):
            self.attempt()
            with suppress(Broken):
                self.next_check = time.monotonic() + check_interval(lineage.stored(self.request).lifetime)
            self.next_ask = 0.0

    def attempt(self, *, asked: bool = False) -> bool:
        """Run certbot, unless the next try is later and it is not `asked` for; remember how it ended.

        Returns whether the certificate is as it should be.
        """
        before = lineage.stored_leaf(self.request)
        with orders.alone() as lock:
            attempts = Attempts.load(self.request)
            if asked and lineage.stored_leaf(self.request) != before:
                log.info("another has renewed it in the meantime")
                return True
            if not asked and clock.now().timestamp() < attempts.next:
                return False
            # Before anything that may be cut short.
            attempts.begin()
            if reason := orders.order(self.request, self.values, lock, now=asked):
                attempts.failed(reason, retry_after(places.CERTBOT_LOG))
                log.error("no certificate: %s; next try at %s", reason, clock.rfc3339(attempts.next))
            else:
                attempts.succeeded()
            self.install()
            return not reason

    def publish(self) -> None:
        """Write the status for other programs; have nginx reload where it serves another pair than it was given."""
        found, given = status.find(self.request), served.in_use()
        status.write(found)
        if found.served and given and found.served.serial != f"{given.leaf.serial_number:x}":
            log.info("nginx serves another certificate than it was given: reloading it")
            reload_nginx()

    def renew(self) -> int:
        """Get another certificate now, and print the status that follows. Returns the exit status."""
        if self.request.own:
            log.info("%s is yours: nothing to renew", self.request.own[0])
            return USAGE
        good = self.attempt(asked=True)
        settle(self.request)
        found = status.find(self.request)
        status.write(found)
        print(found.json())
        return 0 if good else 1


def check_interval(lifetime: datetime.timedelta) -> float:
    """Seconds between two questions whether to renew: 12 hours at 90 days, under 3 at 6 days."""
    seconds = lifetime.total_seconds() / CHECKS_A_LIFETIME
    return max(LEAST_SECONDS_BETWEEN_CHECKS, min(seconds, MOST_SECONDS_BETWEEN_CHECKS))


def reload_nginx() -> None:
    """Have nginx take what it was given; log what it refuses."""
    # `docker exec -u` with another uid may renew; the supervised program then sees what nginx still serves.
    with suppress(PermissionError):
        if reason := nginx.reload():
            log.error("nginx refuses its configuration, it serves on with the old one: %s", reason)


def settle(request: Request) -> None:
    """Wait until nginx serves what it was given, SETTLING seconds at most."""
    given, until = served.in_use(), time.monotonic() + SETTLING
    while given and served.ask_nginx(request) != given.leaf and time.monotonic() < until:
        time.sleep(0.1)


def wait_for_nginx() -> None:
    """Wait until nginx has started with some pair, STARTING seconds at most."""
    until = time.monotonic() + STARTING
    while not (places.NGINX_PID.exists() and served.in_use()) and time.monotonic() < until:
        time.sleep(0.1)


def stop(*_: object) -> None:
    """Kill certbot and this program at once: SIGTERM's handler.

    An order that is cut short is repeated; nothing that certbot writes is used before it is checked.
    """
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.killpg(0, signal.SIGKILL)


def run(arguments: list[str]) -> int:
    """Run the command that the arguments are. Returns the exit status. Raises Refused."""
    program = Program(*load())
    match arguments:
        case []:
            signal.signal(signal.SIGTERM, stop)
            wait_for_nginx()
            program.keep()
        case ["install"]:
            program.install()
        case ["renew"]:
            return program.renew()
        case ["status"]:
            print(status.find(program.request).text())
        case ["status", "--json"]:
            print(status.find(program.request).json())
        case _:
            raise Refused(USAGE, "usage: certificate [install | renew | status [--json]]")
    return 0


def main(arguments: list[str]) -> int:
    """Run one command. Returns the exit status."""
    os.umask(0o007)
    start_log(arguments)
    try:
        return run(arguments)
    except Refused as refused:
        if str(refused):
            log.error("%s", refused)
        return refused.status
