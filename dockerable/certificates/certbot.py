"""Getting certificates: when certbot may be run, what it is run with, why it failed.

Kept on the letsencrypt volume, in `attempts.json`, are only the last error and the time of the next try:
whatever restarts the container, an authority's rate limits are not reached. All else is derived from the
stored lineage each time.
"""

import concurrent.futures
import datetime
import email.utils
import fcntl
import json
import re
import secrets
import socket
import ssl
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from ipaddress import ip_address
from pathlib import Path

from dockerable.certificates.pairs import LETSENCRYPT, WEBROOT, Request, now

LOG = Path("/run/letsencrypt/log/letsencrypt.log")
LOCK = Path("/run/letsencrypt/attempt.lock")
# Let's Encrypt allows five failed authorisations a name and hour, and five equal certificates in seven days.
FIRST_BACKOFF = datetime.timedelta(minutes=15)
LONGEST_BACKOFF = datetime.timedelta(days=1)
# However far away an authority's Retry-After, or the file of a machine whose clock was wrong, puts the next try.
LONGEST_WAIT = datetime.timedelta(days=7).total_seconds()
# Tries that a kill cut short and that are repeated at once.
UNFINISHED_AT_ONCE = 2
# How often a certificate's lifetime certbot is asked whether to renew, which also asks the authority (ARI).
CHECKS_A_LIFETIME = 50
NONCE_TRIES = 3
MOST_SECONDS_BETWEEN_CHECKS = 12 * 3600
LEAST_SECONDS_BETWEEN_CHECKS = 5
DIAGNOSIS_SECONDS = 2.0


@dataclass
class Attempts:
    """What is remembered across restarts. Times are seconds since the epoch; 0 is never."""

    wanted: str = ""
    failures: int = 0
    unfinished: int = 0
    last: float = 0
    next: float = 0
    error: str = ""

    @classmethod
    def load(cls, request: Request) -> "Attempts":
        """From the volume; a fresh one where there is none, or where something else is wanted now."""
        with suppress(OSError, ValueError, TypeError):
            found = cls(**json.loads((LETSENCRYPT / "attempts.json").read_text()))
            counted = (found.failures, found.unfinished, found.last, found.next)
            if found.wanted == cls.want(request) and all(isinstance(value, int | float) for value in counted):
                found.next = min(found.next, now().timestamp() + LONGEST_WAIT)
                return found
        return cls(wanted=cls.want(request))

    @staticmethod
    def want(request: Request) -> str:
        """What the attempts are for, in words."""
        return f"{' '.join(request.names)} from {request.server}"

    def save(self) -> None:
        """Write it, whole or not at all. Raises OSError."""
        file = LETSENCRYPT / "attempts.json"
        new = file.with_suffix(".new")
        new.write_text(json.dumps(asdict(self), indent=1) + "\n")
        new.rename(file)

    def begin(self) -> None:
        """Before certbot runs: should nobody be left to say how it ended, the next try waits nevertheless."""
        self.last = now().timestamp()
        self.unfinished += 1
        wait = 0.0 if self.unfinished <= UNFINISHED_AT_ONCE else backoff(self.unfinished - UNFINISHED_AT_ONCE)
        self.next = self.last + wait
        if wait:
            self.error = f"cut short {self.unfinished - 1} times in a row: the container or the program was stopped"
        self.save()

    def succeeded(self) -> None:
        """Nothing stands in the way of the next one."""
        self.failures, self.unfinished, self.next, self.error = 0, 0, 0, ""
        self.save()

    def failed(self, error: str, retry_after: float) -> None:
        """Exponential from 15 minutes; later where the authority says so (seconds since the epoch, or 0)."""
        self.failures, self.unfinished, self.error = self.failures + 1, 0, error
        self.next = max(now().timestamp() + backoff(self.failures), retry_after)
        self.save()


def backoff(failures: int) -> float:
    """Seconds to wait after so many failures in a row."""
    wait: datetime.timedelta = min(FIRST_BACKOFF * 2 ** min(failures - 1, 20), LONGEST_BACKOFF)
    return wait.total_seconds()


def check_interval(lifetime: datetime.timedelta) -> float:
    """Seconds between two questions whether to renew: 12 hours at 90 days, under 3 at 6 days."""
    seconds = lifetime.total_seconds() / CHECKS_A_LIFETIME
    return max(LEAST_SECONDS_BETWEEN_CHECKS, min(seconds, MOST_SECONDS_BETWEEN_CHECKS))


def issue_command(request: Request, environ: Mapping[str, str]) -> list[str]:
    """certbot's arguments for a new certificate under the lineage's name."""
    command = ["certbot", "certonly", "--non-interactive", "--agree-tos", "--force-renewal"]
    command += ["--renew-with-new-domains", "--cert-name", request.lineage, "--server", request.server]
    # ECDSA is certbot's own default; said here, cli.ini could not choose another.
    command += ["--no-directory-hooks"]
    mail = environ["EMAIL_ADDRESS"]
    command += ["--email", mail, "--no-eff-email"] if mail else ["--register-unsafely-without-email"]
    if profile := environ["ACME_PROFILE"]:
        command += ["--required-profile", profile]
    if plugin := environ["ACME_DNS_PLUGIN"]:
        command += ["--authenticator", f"dns-{plugin}"]
        command += [f"--dns-{plugin}-credentials", environ["ACME_DNS_CREDENTIALS"]]
        command += [f"--dns-{plugin}-propagation-seconds", environ["ACME_DNS_PROPAGATION_SECONDS"]]
    else:
        command += ["--authenticator", "webroot", "--webroot-path", WEBROOT]
    for name in request.names:
        command += ["--ip-address", name] if is_address(name) else ["--domain", name]
    return command


def authenticator(request: Request, environ: Mapping[str, str]) -> dict[str, object]:
    """How the authority is answered, as certbot stores it with a certificate."""
    if plugin := environ["ACME_DNS_PLUGIN"].replace("-", "_"):
        return {
            "authenticator": f"dns-{environ['ACME_DNS_PLUGIN']}",
            f"dns_{plugin}_credentials": environ["ACME_DNS_CREDENTIALS"],
            f"dns_{plugin}_propagation_seconds": environ["ACME_DNS_PROPAGATION_SECONDS"],
        }
    webroots = dict.fromkeys(request.names, WEBROOT)
    return {"authenticator": "webroot", "webroot_path": [WEBROOT], "webroot_map": webroots}


def renew_command(request: Request, *, now: bool = False) -> list[str]:
    """certbot's arguments to renew when it is time, by the certificate's lifetime and the authority's ARI, or now."""
    command = ["certbot", "renew", "--non-interactive", "--cert-name", request.lineage, "--no-directory-hooks"]
    return [*command, "--force-renewal"] if now else command


def is_address(name: str) -> bool:
    """Whether a name is an IP address."""
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


@contextmanager
def alone() -> Iterator[int]:
    """One attempt at a time. Gives the lock's descriptor, which `run` passes on: should its program be killed,
    the lock is certbot's for as long as that lives.
    """
    LOCK.parent.mkdir(parents=True, exist_ok=True)
    with LOCK.open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield lock.fileno()


def run(command: list[str], lock: int) -> tuple[bool, str]:
    """Run certbot (bin/certbot) to its end. Returns whether it succeeded, and its output.

    acme repeats a request once whose nonce was rejected; for a second rejection certbot is run again.
    """
    for _ in range(NONCE_TRIES):
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, pass_fds=[lock], check=False)
        output = done.stdout.decode(errors="replace")
        if done.returncode == 0 or "badNonce" not in output:
            break
    return done.returncode == 0, output


# What certbot says around the reason.
NOISE = re.compile(
    r"^(Saving debug log|Account registered|Requesting a certificate|Renewing an existing|Certbot failed to auth|"
    r"Hint:|Some challenges have failed|Ask for help|An unexpected error occurred:|- - -|Processing /|"
    r"Simulating|The following|All renewals failed|Registering without email|\s*/etc/letsencrypt/live/|"
    r"\d+ renew failure|Failed to renew certificate \S+ with error: Some challenges|Use of |$)"
)


def reason(output: str) -> str:
    """Why certbot failed, from what it printed: one line of at most 500 characters."""
    lines = [" ".join(line.split()) for line in output.splitlines() if not NOISE.match(line.strip())]
    return "; ".join(dict.fromkeys(lines))[:500] or "certbot gave no reason"


def retry_after(log: Path = LOG) -> float:
    """The latest Retry-After in certbot's own log, as seconds since the epoch; 0 where it has none."""
    try:
        answers = log.read_text(errors="replace").split("Received response:\nHTTP ")[1:]
    except OSError:
        return 0
    refusals = [answer.partition("\n\n")[0] for answer in answers if answer.startswith(("429", "503"))]
    found = re.search(r"^Retry-After: *(.+?) *$", refusals[-1], re.M | re.I) if refusals else None
    if not found:
        return 0
    until = now().timestamp() + LONGEST_WAIT
    with suppress(ValueError, TypeError, OverflowError):
        if found[1].isdigit():
            return min(now().timestamp() + int(found[1]), until)
        return min(email.utils.parsedate_to_datetime(found[1]).timestamp(), until)
    return 0


def account_is_lost(output: str) -> bool:
    """Whether the authority does not know our account (it was reset, or the account was removed there)."""
    lost = r"accountDoesNotExist|unable to find (an )?account|account.*(not found|does not exist)"
    return bool(re.search(lost, output, re.I))


def forget_account(request: Request) -> None:
    """Move the account of this server aside, so that certbot registers a new one."""
    host_and_path = re.sub(r"^https?://", "", request.server).replace("//", "/").strip("/")
    folder = LETSENCRYPT / "accounts" / host_and_path
    if folder.is_dir():
        aside = LETSENCRYPT / "broken" / f"account-{now():%Y%m%dT%H%M%S}"
        aside.parent.mkdir(parents=True, exist_ok=True)
        folder.rename(aside)


def diagnose(request: Request, environ: Mapping[str, str]) -> list[str]:
    """What looks wrong from in here before an order; it informs and is not always right (hairpin NAT)."""
    folder = Path(WEBROOT, ".well-known/acme-challenge")
    token, content = f"self-{secrets.token_hex(8)}", secrets.token_hex(16)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / token).write_text(content)
    names = [] if environ["ACME_DNS_PLUGIN"] else list(request.names)
    pool = concurrent.futures.ThreadPoolExecutor(len(names) + 1)
    tasks = [pool.submit(check_name, name, token, content) for name in names]
    tasks.append(pool.submit(check_authority, request.server, environ["ACME_CA_BUNDLE"]))
    finished, _ = concurrent.futures.wait(tasks, DIAGNOSIS_SECONDS)
    pool.shutdown(wait=False, cancel_futures=True)
    (folder / token).unlink(missing_ok=True)
    return [task.result() for task in tasks if task in finished and task.result()]


def check_name(name: str, token: str, content: str) -> str:
    """What is wrong with a name as the authority will see it; empty where nothing is."""
    try:
        addresses = sorted({str(found[4][0]) for found in socket.getaddrinfo(name, 80, type=socket.SOCK_STREAM)})
    except OSError as why:
        return f"{name} has no address (A or AAAA record): {why.strerror or why}"
    try:
        url = f"http://{name}/.well-known/acme-challenge/{token}"
        with urllib.request.urlopen(url, timeout=DIAGNOSIS_SECONDS) as answer:
            if answer.read(100).decode(errors="replace") == content:
                return ""
        return f"port 80 of {name} ({', '.join(addresses)}) is answered by somebody else"
    except urllib.error.HTTPError as why:
        return f"port 80 of {name} ({', '.join(addresses)}) answers with {why.code}: not this container?"
    except OSError as why:
        why = getattr(why, "reason", why)
        return f"port 80 of {name} ({', '.join(addresses)}) does not answer in here: {why}"


def check_authority(server: str, bundle: str) -> str:
    """Whether the authority answers, and this machine's clock agrees with it; empty where both."""
    try:
        context = ssl.create_default_context(cafile=bundle or None)
        with urllib.request.urlopen(server, timeout=DIAGNOSIS_SECONDS, context=context) as answer:
            stamp = answer.headers.get("Date")
    except OSError as why:
        return f"{server} cannot be reached: {getattr(why, 'reason', why)}"
    with suppress(TypeError, ValueError):
        skew = abs((email.utils.parsedate_to_datetime(stamp) - now()).total_seconds())
        if skew > 300:
            return f"this machine's clock differs from the authority's by {skew:.0f} s"
    return ""
