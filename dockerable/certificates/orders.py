"""Orders: certbot's arguments, running one certbot at a time, and the meaning of its output."""

import fcntl
import re
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from dockerable.certificates import clock, lineage
from dockerable.certificates.diagnosis import diagnose
from dockerable.certificates.log import log
from dockerable.certificates.pairs import Broken
from dockerable.certificates.request import Request, address
from dockerable.container import places

NONCE_TRIES = 3


def order(request: Request, values: Mapping[str, str], locks: Sequence[int], *, now: bool = False) -> str:
    """Run certbot: for a new certificate if the stored one must be replaced, else for a renewal if one is due.

    With `now` it renews even if that is not due. `locks` come from `alone`. Returns why the order failed; empty if the
    stored certificate is good.
    """
    why = lineage.why_reissue(request)
    command = issue_command(request, values) if why else renew_command(request, now=now)
    if why:
        log.info("%s; asking %s", why, request.server)
        set_aside_unusable(request)
    good, output = run(command, locks)
    if not good and account_is_lost(output):
        log.info("the authority does not know our account any more; registering another")
        forget_account(request)
        # Not `renew`, which would use the account that the lineage was made with.
        good, output = run(issue_command(request, values), locks)
    if not good:
        for finding in diagnose(request, values):
            log.info("note: %s", finding)
        return reason(output)
    if why := lineage.why_reissue(request):
        # Reported as a failure, so that the back-off applies: otherwise the same order would be repeated endlessly.
        return reason(f"certbot got one, and yet {why}")
    return ""


def set_aside_unusable(request: Request) -> None:
    """Move a lineage aside if certbot could not use it."""
    try:
        lineage.renewal_configuration(request)
        lineage.stored(request)
    except Broken:
        if aside := lineage.set_aside(request):
            log.info("what is stored is kept in %s", aside)


def issue_command(request: Request, values: Mapping[str, str]) -> list[str]:
    """certbot's arguments for a new certificate under the lineage's name."""
    command = ["certbot", "certonly", "--non-interactive", "--agree-tos", "--force-renewal"]
    command += ["--renew-with-new-domains", "--cert-name", request.lineage, "--server", request.server]
    # No --key-type: certbot's default is ECDSA, and cli.ini may choose another.
    command += ["--no-directory-hooks"]
    mail = values["EMAIL_ADDRESS"]
    command += ["--email", mail, "--no-eff-email"] if mail else ["--register-unsafely-without-email"]
    if profile := values["ACME_PROFILE"]:
        command += ["--required-profile", profile]
    if plugin := values["ACME_DNS_PLUGIN"]:
        command += ["--authenticator", f"dns-{plugin}"]
        command += [f"--dns-{plugin}-credentials", values["ACME_DNS_CREDENTIALS"]]
        command += [f"--dns-{plugin}-propagation-seconds", values["ACME_DNS_PROPAGATION_SECONDS"]]
    else:
        command += ["--authenticator", "webroot", "--webroot-path", str(places.WEBROOT)]
    for name in request.names:
        command += ["--ip-address", name] if address(name) else ["--domain", name]
    return command


def authenticator(request: Request, values: Mapping[str, str]) -> dict[str, object]:
    """The options of the challenge's authenticator, as certbot stores them in a renewal configuration."""
    if plugin := values["ACME_DNS_PLUGIN"].replace("-", "_"):
        return {
            "authenticator": f"dns-{values['ACME_DNS_PLUGIN']}",
            f"dns_{plugin}_credentials": values["ACME_DNS_CREDENTIALS"],
            f"dns_{plugin}_propagation_seconds": values["ACME_DNS_PROPAGATION_SECONDS"],
        }
    webroots = dict.fromkeys(request.names, str(places.WEBROOT))
    return {"authenticator": "webroot", "webroot_path": [str(places.WEBROOT)], "webroot_map": webroots}


def renew_command(request: Request, *, now: bool = False) -> list[str]:
    """certbot's arguments for a renewal `now`, or if the certificate's lifetime or the authority's ARI makes it due."""
    command = ["certbot", "renew", "--non-interactive", "--cert-name", request.lineage, "--no-directory-hooks"]
    return [*command, "--force-renewal"] if now else command


@contextmanager
def alone(*locks: int) -> Iterator[list[int]]:
    """Hold the lock that lets one attempt run at a time. Yields the descriptors of `locks` and of this one.

    `run` passes them to certbot: so if this program is killed, certbot still holds the locks.
    """
    places.CERTBOT.mkdir(parents=True, exist_ok=True)
    with (places.CERTBOT / "attempt.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield [*locks, lock.fileno()]


def run(command: list[str], locks: Sequence[int]) -> tuple[bool, str]:
    """Run certbot (bin/certbot). Returns whether it succeeded, and its output.

    If the authority rejects a nonce, the acme library repeats the request once; after a second rejection certbot is run
    again.
    """
    for _ in range(NONCE_TRIES):
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, pass_fds=locks, check=False)
        output = done.stdout.decode(errors="replace")
        if done.returncode == 0 or "badNonce" not in output:
            break
    return done.returncode == 0, output


# Lines of certbot's output that do not contain the reason for a failure.
NOISE = re.compile(
    r"^(Saving debug log|Account registered|Requesting a certificate|Renewing an existing|Certbot failed to auth|"
    r"Hint:|Some challenges have failed|Ask for help|An unexpected error occurred:|- - -|Processing /|"
    r"Simulating|The following|All renewals failed|Registering without email|\s*/etc/letsencrypt/live/|"
    r"\d+ renew failure|Failed to renew certificate \S+ with error: Some challenges|Use of |$)"
)


def reason(output: str) -> str:
    """Why certbot failed, from its output: one line of at most 500 characters."""
    lines = [" ".join(line.split()) for line in output.splitlines() if not NOISE.match(line.strip())]
    return "; ".join(dict.fromkeys(lines))[:500] or "certbot gave no reason"


def account_is_lost(output: str) -> bool:
    """Whether the authority does not know our account (it was reset, or the account was removed there)."""
    lost = r"accountDoesNotExist|unable to find (an )?account|account.*(not found|does not exist)"
    return bool(re.search(lost, output, re.I))


def forget_account(request: Request) -> None:
    """Move the account of this server aside, so that certbot registers a new one."""
    host_and_path = re.sub(r"^https?://", "", request.server).replace("//", "/").strip("/")
    folder = places.LETSENCRYPT / "accounts" / host_and_path
    if folder.is_dir():
        aside = places.LETSENCRYPT / "broken" / f"account-{clock.now():%Y%m%dT%H%M%S}"
        aside.parent.mkdir(parents=True, exist_ok=True)
        folder.rename(aside)
