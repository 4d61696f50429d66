"""certbot: what `docker exec CONTAINER certbot …` and the certificate program run; it runs /opt/dockerable's certbot.

One at a time; what certbot writes stays usable when the container's uid changes; nginx serves what it got.
Reads: ACME_CA_BUNDLE, ACME_EAB_KID, ACME_EAB_HMAC_FILE. Writes: /run/letsencrypt, /etc/letsencrypt
Where another container renews what is in /etc/letsencrypt (owner.py), `renew` does nothing and succeeds, so that cron
may call it in each; commands that only read run there; the rest is refused.
Exits: certbot's status; 64 as uid 0; 73 where it cannot write; 75 while another one runs or another container is the
owner; 124 (137 where it had to be killed) after two hours; 128 and the number of the signal that ended it.

It starts often, so it imports little: no cryptography.
"""

import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from dockerable.certificates.owner import Owner
from dockerable.container import places
from dockerable.container.exit_status import CANNOT_CREATE, TRY_LATER
from dockerable.container.refuse_root import refuse_root

# /opt/dockerable/bin/certbot is a link to bin/certbot, so that nobody runs certbot past this program.
PROGRAM = ("/opt/dockerable/bin/python3", "-P", "-c", "import sys; from certbot.main import main; sys.exit(main())")
PATIENCE = 300.0  # seconds for another one to end
# No order takes two hours: an authority that never ends its answers must not end all renewals.
LIMIT = 2 * 3600.0  # seconds
KILL_AFTER = 10.0  # seconds between the signal that is to end certbot and SIGKILL
# Commands and options that change nothing in /etc/letsencrypt.
READING = {"certificates", "show_account", "plugins", "help", "-h", "--help", "--version"}
# As timeout(1) of coreutils has them.
TIMED_OUT, KILLED = 124, 128 + signal.SIGKILL
SIGNALS = (signal.SIGALRM, signal.SIGHUP, signal.SIGINT, signal.SIGTERM)


class Stopped(Exception):
    """A signal came that ends this program; SIGALRM where the time for a step is over."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class FirstSignal:
    """A handler that raises Stopped once: what is then done is not to be interrupted by another signal."""

    def __init__(self) -> None:
        self.came = 0
        self.put_off = False

    def __call__(self, number: int, _: object) -> None:
        """Called by Python."""
        if not self.came:
            self.came = number
            if not self.put_off:
                raise Stopped(number)

    @contextmanager
    def later(self) -> Iterator[None]:
        """Raise Stopped only after the block, for a signal that came first within it."""
        before, self.put_off = self.came, True
        try:
            yield
        finally:
            self.put_off = False
        if self.came and not before:
            raise Stopped(self.came)


def handle_signals() -> FirstSignal:
    """Have the first of SIGNALS raise Stopped, except what this program was started to ignore, as by nohup."""
    handler = FirstSignal()
    for one in SIGNALS:
        if one == signal.SIGALRM or signal.getsignal(one) != signal.SIG_IGN:
            signal.signal(one, handler)
    return handler


def say(message: str) -> None:
    """One line on stderr."""
    print(f"certbot: {message}", file=sys.stderr, flush=True)


def refuse(status: int, message: str) -> int:
    """Say why certbot is not run. Returns the status."""
    say(f"error: {message}")
    return status


def trusting(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment in which certbot believes the authority that ACME_CA_BUNDLE vouches for."""
    bundle = environ.get("ACME_CA_BUNDLE")
    return {**environ, "REQUESTS_CA_BUNDLE": bundle} if bundle else dict(environ)


def account_options(environ: Mapping[str, str]) -> list[str]:
    """certbot's options for an external account, by a file, since everybody sees arguments. Raises OSError."""
    kid = environ.get("ACME_EAB_KID")
    if not kid:
        return []
    key = b""
    try:
        with open(environ.get("ACME_EAB_HMAC_FILE", ""), "rb") as secret:
            key = secret.read().rstrip(b"\n")
    except OSError as reason:
        # Only the first order needs the key.
        say(f"ACME_EAB_HMAC_FILE cannot be read: {reason.strerror}")
    file = places.CERTBOT / "eab.ini"
    file.write_bytes(b"eab-kid = %s\neab-hmac-key = %s\n" % (os.fsencode(kid), key))
    return ["--config", str(file)]


def make_folders() -> None:
    """Make what certbot expects to be there. Raises OSError."""
    # The webroot is a link into /run.
    for folder in (places.CERTBOT / "work", places.CERTBOT / "log", places.WEBROOT.resolve()):
        folder.mkdir(parents=True, exist_ok=True)


def take(lock: int) -> bool:
    """Lock the file of this descriptor. Returns whether no other held it for longer than PATIENCE. Raises Stopped."""
    try:
        signal.setitimer(signal.ITIMER_REAL, PATIENCE)
        fcntl.flock(lock, fcntl.LOCK_EX)
        signal.setitimer(signal.ITIMER_REAL, 0)
    except Stopped as stopped:
        signal.setitimer(signal.ITIMER_REAL, 0)
        if stopped.number == signal.SIGALRM:
            return False
        raise
    return True


def run(command: list[str], environ: Mapping[str, str], handler: FirstSignal) -> int:
    """Run certbot, for LIMIT at most. Returns its exit status as a shell tells it. Raises Stopped once it has ended."""
    process = None
    try:
        signal.setitimer(signal.ITIMER_REAL, LIMIT)
        # A certbot that has started is known here, so that a signal ends it too.
        with handler.later():
            # Descriptors that this program was given reach certbot, such as the lock of the certificate program, which
            # then lasts as long as certbot does. Those opened here are closed.
            process = subprocess.Popen(command, env=environ, close_fds=False)
        status = process.wait()
        signal.setitimer(signal.ITIMER_REAL, 0)
    except Stopped as stopped:
        signal.setitimer(signal.ITIMER_REAL, 0)
        timed_out = stopped.number == signal.SIGALRM
        if process:
            end(process, signal.SIGTERM if timed_out else stopped.number)
        if process and timed_out:
            return KILLED if process.returncode == -signal.SIGKILL else TIMED_OUT
        raise
    return status if status >= 0 else 128 - status


def end(process: "subprocess.Popen[bytes]", number: int) -> None:
    """Send the signal, and SIGKILL where the process has not ended KILL_AFTER that. Returns once it has."""
    process.send_signal(number)
    try:
        process.wait(KILL_AFTER)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def open_to_group() -> None:
    """Give the group what certbot made for its uid alone: folders 0700, keys 0600.

    The container's next uid, which has the same group, must be able to go on.
    """
    # In a group of its own, which Ctrl-C does not reach.
    subprocess.run(["chmod", "-R", "-f", "g+rwX", places.LETSENCRYPT], check=False, process_group=0)


def run_alone(arguments: list[str], handler: FirstSignal) -> int:
    """Check, wait for the lock, run certbot. Returns the exit status. Raises Stopped."""
    # Root would also call the lineage broken, whose files it cannot read.
    if status := refuse_root("certbot"):
        return status
    if not os.access(places.LETSENCRYPT, os.W_OK):
        return refuse(CANNOT_CREATE, f"{places.LETSENCRYPT} cannot be written by uid {os.geteuid()}")
    owner = Owner()
    if (other := owner.other()) and not READING.intersection(arguments):
        if "renew" in arguments:
            say(f"nothing done: container {other} renews what is in {places.LETSENCRYPT}")
            return 0
        return refuse(TRY_LATER, f"container {other} orders and renews in {places.LETSENCRYPT}: call certbot there")
    try:
        make_folders()
        command = [*PROGRAM, *arguments, *account_options(os.environ)]
        lock = (places.CERTBOT / "lock").open("a")
    except OSError as reason:
        return refuse(CANNOT_CREATE, f"{places.CERTBOT} cannot be written: {reason.strerror} {places.ROOM_IN_RUN}")
    with lock:
        if not take(lock.fileno()):
            return refuse(TRY_LATER, "another certbot has been running for five minutes")
        try:
            return run(command, trusting(os.environ), handler)
        finally:
            with handler.later():
                open_to_group()


def main(arguments: list[str]) -> int:
    """Run certbot with these arguments. Returns the exit status."""
    os.umask(0o007)
    handler = handle_signals()
    try:
        return run_alone(arguments, handler)
    except Stopped as stopped:
        return 128 + stopped.number
