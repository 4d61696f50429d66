"""Looks for reasons why an order may have failed: names that lead elsewhere, an unreachable authority, a wrong clock.

The findings are only logged, since they may be wrong: many hosts cannot reach their own public name (hairpin NAT).
"""

import concurrent.futures
import email.utils
import secrets
import socket
import ssl
import urllib.error
import urllib.request
from collections.abc import Mapping
from contextlib import suppress
from http.client import HTTPException

from dockerable.certificates import clock
from dockerable.certificates.request import Request
from dockerable.container import places

PATIENCE = 2.0  # seconds
LARGEST_SKEW = 300  # seconds


def diagnose(request: Request, values: Mapping[str, str]) -> list[str]:
    """One line for each problem found within PATIENCE seconds."""
    folder = places.WEBROOT / ".well-known/acme-challenge"
    token, content = f"self-{secrets.token_hex(8)}", secrets.token_hex(16)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / token).write_text(content)
    names = [] if values["ACME_DNS_PLUGIN"] else list(request.names)
    pool = concurrent.futures.ThreadPoolExecutor(len(names) + 1)
    tasks = [pool.submit(check_name, name, token, content) for name in names]
    tasks.append(pool.submit(check_authority, request.server, values["ACME_CA_BUNDLE"]))
    finished, _ = concurrent.futures.wait(tasks, PATIENCE)
    pool.shutdown(wait=False, cancel_futures=True)
    (folder / token).unlink(missing_ok=True)
    return [task.result() for task in tasks if task in finished and task.result()]


def check_name(name: str, token: str, content: str) -> str:
    """What may keep the authority from validating a name; empty if nothing does."""
    try:
        addresses = sorted({str(found[4][0]) for found in socket.getaddrinfo(name, 80, type=socket.SOCK_STREAM)})
    except OSError as why:
        return f"{name} has no address (A or AAAA record): {why.strerror or why}"
    try:
        host = f"[{name}]" if ":" in name else name
        url = f"http://{host}/.well-known/acme-challenge/{token}"
        with urllib.request.urlopen(url, timeout=PATIENCE) as answer:
            if answer.read(100).decode(errors="replace") == content:
                return ""
        return f"port 80 of {name} ({', '.join(addresses)}) is answered by somebody else"
    except urllib.error.HTTPError as why:
        return f"port 80 of {name} ({', '.join(addresses)}) answers with {why.code}: not this container?"
    except (OSError, HTTPException) as why:
        reason = getattr(why, "reason", why)
        return f"port 80 of {name} ({', '.join(addresses)}) does not answer in here: {reason}"


def check_authority(server: str, bundle: str) -> str:
    """The problem if the authority does not answer or this machine's clock differs from it; empty if there is none."""
    try:
        context = ssl.create_default_context(cafile=bundle or None)
        with urllib.request.urlopen(server, timeout=PATIENCE, context=context) as answer:
            stamp = answer.headers.get("Date")
    except (OSError, HTTPException) as why:
        return f"{server} cannot be reached: {getattr(why, 'reason', why)}"
    with suppress(TypeError, ValueError):
        skew = abs((email.utils.parsedate_to_datetime(stamp) - clock.now()).total_seconds())
        if skew > LARGEST_SKEW:
            return f"this machine's clock differs from the authority's by {skew:.0f} s"
    return ""
