"""Warns of a proxy that TRUSTED_PROXIES does not name: Django refuses forms that are sent through it over HTTPS.

nginx marks a request whose X-Forwarded-Proto it has dropped with a uwsgi parameter that no client can send. Anybody can
send that header, so there is one warning an hour, whatever the number of workers.
"""

import fcntl
import os
import sys
import time
from pathlib import Path

from dockerable.container.places import PROXY_WARNING

HOUR = 3600.0
# Monotonic time before which this worker does not look again.
_silent_until = 0.0


def warn_of(address: str, stamp: Path = PROXY_WARNING) -> None:
    """Log that the X-Forwarded headers of this peer were dropped, unless it was logged within the last hour."""
    global _silent_until
    now = time.monotonic()
    if now < _silent_until:
        return
    _silent_until = now + HOUR
    if not _first_within_an_hour(stamp):
        return
    message = (
        f"warning: X-Forwarded-Proto of {address} is ignored, since TRUSTED_PROXIES does not name that address: if it"
        " is your proxy, forms are refused (403, Origin checking failed) and its clients count as one"
        f" (remedy: TRUSTED_PROXIES={address}, or the proxy's network; if it is a stranger, nothing)"
    )
    print(message, file=sys.stderr, flush=True)


def _first_within_an_hour(stamp: Path) -> bool:
    """Whether no worker has logged it within the last hour; if so, note that one does now."""
    try:
        with stamp.open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            before = os.fstat(file.fileno())
            if before.st_size and abs(time.time() - before.st_mtime) < HOUR:
                return False
            file.truncate(0)
            file.write("warned\n")
    except OSError:
        # /run is full: each worker logs it.
        return True
    return True
