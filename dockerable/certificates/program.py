"""certificate: orders, renews and installs the site's certificate, and reports its state.

Usage: certificate                    run by supervisord: keeps the best pair installed, orders and renews when due
       certificate install            give nginx the best pair that is stored now; reload nginx if it changed
       certificate renew              order a certificate now, due or not, regardless of the back-off
       certificate status [--json]    print the stored and the served certificate, the last attempt and the next
Reads: the container's variables (environment.py). Writes: /run/tls, /run/certificate.json, /etc/letsencrypt
Exits: 0; 1 renew failed; 64 wrong usage, HTTPS is off, or as uid 0 (but not `status`, which writes nothing);
65 the mounted certificate (TLS_CERTIFICATE) is unusable; 73 /run is full; 75 renew in a container that is not the one
that orders (owner.py).
"""

import datetime
import errno
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
from dockerable.certificates.owner import Owner
from dockerable.certificates.pairs import Broken
from dockerable.certificates.request import Request
from dockerable.container import environment, nginx, places
from dockerable.container.exit_status import BAD_DATA, CANNOT_CREATE, TRY_LATER, USAGE
from dockerable.container.refuse_root import refuse_root

# How often during a certificate's lifetime certbot checks whether to renew; it then also asks the authority (ARI).
CHECKS_A_LIFETIME = 50
MOST_SECONDS_BETWEEN_CHECKS = 12 * 3600
LEAST_SECONDS_BETWEEN_CHECKS = 5
# Seconds between two checks of the files, and of the certificate that nginx serves.
LOOK, ASK = 5.0, 60.0
# A mounted certificate's expiry is logged once a day, from this many days before.
WARN_DAYS = 21
# Seconds to wait for nginx: for its start, and until it serves a new pair.
STARTING, SETTLING = 10.0, 5.0


class Refused(Exception):
    """The program ends with this exit status, and with a message unless the reason has been logged."""

    def __init__(self, status: int, message: str = "") -> None:
        super().__init__(message)
        self.status = status


def load() -> tuple[Request, Mapping[str, str]]:
    """The wanted certificate and the checked variables. Raises Refused if HTTPS is off or a variable is wrong."""
    report = environment.read()
    if report.errors or report.values["USE_SSL"] != "on":
        raise Refused(USAGE, "; ".join([text for _, text in report.errors] or ["USE_SSL is off"]))
    return Request.of(report.values), report.values


class Program:
    """Keeps the best pair installed, orders and renews the certificate, and logs each change once."""

    def __init__(self, request: Request, values: Mapping[str, str]) -> None:
        self.request, self.values = request, values
        # What was logged last: the mounted certificate's problem, the pair that nginx has, the day of the warnings.
        self.problem = self.fingerprint = self.warned = ""
        # Monotonic seconds of the next check for a renewal, and of the next check of what nginx serves.
        self.next_check = self.next_ask = 0.0
        self.owner = Owner()
        # The other container that orders and renews, and why nothing can be locked, as they were logged last.
        self.other = self.unlocked = ""

    @property
    def name(self) -> str:
        """The stored or mounted certificate in messages."""
        return str(self.request.own[0]) if self.request.own else "the stored certificate"

    def keep(self) -> NoReturn:
        """Main loop: every LOOK seconds install the best pair, renew when due, publish the status."""
        if pair := served.in_use():
            self.fingerprint = pair.fingerprint  # the container's start has logged it
        while True:
            self.look()
            time.sleep(LOOK)

    def look(self) -> None:
        """One turn of the main loop. Raises Refused as `install` does."""
        self.install()
        # An administrator may have run certbot, whose hook has already installed the pair.
        self.log_served()
        if self.request.own:
            self.warn_of_own(self.request.own[0])
        elif self.is_owner():
            self.renew_when_due()
        if time.monotonic() >= self.next_ask:
            self.next_ask = time.monotonic() + ASK
            self.publish()

    def install(self) -> bool:
        """Give nginx the best pair. Returns whether the pair has changed.

        Raises Refused if the mounted certificate cannot be used and only a temporary one could replace it.
        """
        pair, problem = served.best(self.request)
        # What is wrong with a stored one is logged with the order that replaces it.
        said = problem if self.request.own or "refused by nginx" in problem else ""
        if said != self.problem:
            self.problem = said
            if said:
                log.error("%s %s", self.name, said)
        if problem and self.request.own and pair.temporary:
            raise Refused(BAD_DATA)
        before = served.in_use()
        if not served.install(pair):
            return False
        if (reason := reload_nginx()) and before:
            served.install(before)
            served.refuse(pair, reason)
            return False
        self.log_served()
        return True

    def log_served(self) -> None:
        """Log the pair that nginx was given, once for each pair."""
        pair = served.in_use()
        if pair is None or pair.fingerprint == self.fingerprint:
            return
        self.fingerprint = pair.fingerprint
        what = "a temporary certificate" if pair.temporary else f"a certificate of {pairs.issuer_of(pair.leaf)}"
        until = clock.rfc3339(pair.leaf.not_valid_after_utc)
        log.info("nginx has %s for %s, valid until %s", what, " ".join(pair.names), until)
        if not pair.chained:
            log.warning(
                "%s comes without the certificate of its issuer %s: clients that do not have that one refuse the site "
                "(remedy: append the authority's chain)",
                *(self.name, pairs.issuer_of(pair.leaf)),
            )

    def warn_of_own(self, file: Path) -> None:
        """Warn once a day if the mounted certificate in `file` lacks names, has expired or expires soon."""
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

    def is_owner(self) -> bool:
        """Whether this container may order and renew; logs each change once."""
        other, folder = self.owner.other(), places.LETSENCRYPT
        if other and other != self.other:
            log.info("container %s orders and renews in %s: serving what it stores, until it is gone", other, folder)
        elif self.other and not other:
            log.info("container %s is gone: ordering and renewing in %s from here on", self.other, folder)
        if self.owner.problem and self.owner.problem != self.unlocked:
            log.warning("%s cannot be locked (%s): only one container may use it", folder, self.owner.problem)
        self.other, self.unlocked = other, self.owner.problem
        return not other

    def renew_when_due(self) -> None:
        """Make an attempt if the certificate must be replaced, or if it is time to check for a renewal."""
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
        """Run certbot, and record the result for the back-off. Does nothing during the back-off unless `asked`.

        Returns whether the certificate is good now. `asked` is for an attempt that a user has requested.
        """
        before = lineage.stored_leaf(self.request)
        with orders.alone(*self.owner.locks) as locks:
            attempts = Attempts.load(self.request)
            if asked and lineage.stored_leaf(self.request) != before:
                log.info("another has renewed it in the meantime")
                return True
            if not asked and clock.now().timestamp() < attempts.next:
                return False
            # First, so that an attempt which is killed counts too.
            attempts.begin()
            if reason := orders.order(self.request, self.values, locks, now=asked):
                attempts.failed(reason, retry_after(places.CERTBOT_LOG))
                log.error("no certificate: %s; next try at %s", reason, clock.rfc3339(attempts.next))
            else:
                attempts.succeeded()
            self.install()
            return not reason

    def publish(self) -> None:
        """Write the status for other programs; reload nginx if it serves another pair than it was given."""
        found, given = status.find(self.request), served.in_use()
        status.write(found)
        if found.served and given and found.served.serial != f"{given.leaf.serial_number:x}":
            log.info("nginx serves another certificate than it was given: reloading it")
            reload_nginx()

    def renew(self) -> int:
        """Order a certificate now, and print the status after it. Returns the exit status."""
        if self.request.own:
            log.info("%s is yours: nothing to renew", self.request.own[0])
            return USAGE
        if other := self.owner.other():
            log.error("container %s orders and renews in %s: ask it there", other, places.LETSENCRYPT)
            return TRY_LATER
        good = self.attempt(asked=True)
        settle(self.request)
        found = status.find(self.request)
        status.write(found)
        print(found.json())
        return 0 if good else 1


def check_interval(lifetime: datetime.timedelta) -> float:
    """Seconds between two checks for a renewal: 12 hours for a lifetime of 90 days, under 3 hours for 6 days."""
    seconds = lifetime.total_seconds() / CHECKS_A_LIFETIME
    return max(LEAST_SECONDS_BETWEEN_CHECKS, min(seconds, MOST_SECONDS_BETWEEN_CHECKS))


def reload_nginx() -> str:
    """Make nginx load the pair that it was given. Logs and returns why nginx refuses; empty if it does not."""
    # After `docker exec -u UID` this process may not signal nginx. The supervised program then notices that nginx still
    # serves the old pair, and reloads it.
    reason = ""
    with suppress(PermissionError):
        if reason := nginx.reload():
            log.error("nginx refuses its configuration, it serves on with the old one: %s", reason)
    return reason


def settle(request: Request) -> None:
    """Wait until nginx serves the pair that it was given, SETTLING seconds at most."""
    given, until = served.in_use(), time.monotonic() + SETTLING
    while given and served.ask_nginx(request) != given.leaf and time.monotonic() < until:
        time.sleep(0.1)


def wait_for_nginx() -> None:
    """Wait until nginx has started with any pair, STARTING seconds at most."""
    until = time.monotonic() + STARTING
    while not (places.NGINX_PID.exists() and served.in_use()) and time.monotonic() < until:
        time.sleep(0.1)


def stop(*_: object) -> None:
    """Handle SIGTERM: kill certbot and this program at once.

    That is safe: an interrupted order is repeated, and files that certbot wrote are checked before they are used.
    """
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.killpg(0, signal.SIGKILL)


def run(arguments: list[str]) -> int:
    """Run the command in `arguments`. Returns the exit status. Raises Refused."""
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
    """Run one command, and log why if it is refused. Returns the exit status."""
    if arguments[:1] != ["status"] and (refused := refuse_root("certificate")):
        return refused
    os.umask(0o007)
    start_log(arguments)
    try:
        return run(arguments)
    except Refused as refused:
        if str(refused):
            log.error("%s", refused)
        return refused.status
    except OSError as reason:
        # `install` writes to /run alone, also before nginx's first start.
        if arguments != ["install"] or reason.errno != errno.ENOSPC:
            raise
        log.error("%s cannot be written: %s %s", places.TLS, reason.strerror, places.ROOM_IN_RUN)
        return CANNOT_CREATE
