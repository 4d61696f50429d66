"""Whether the site still answers: a thread of PID 1 that finds what no restart inside would mend.

It asks nginx for a sign of life on a socket of its own, as bin/healthcheck does. The site counts as broken when
for WATCHDOG_TIMEOUT seconds no answer came and uWSGI finished no request and killed none either: workers that
are busy with slow requests are well. Nothing counts before uWSGI accepts requests, nor while it starts anew.
"""

import contextlib
import threading
import time
from collections.abc import Callable

from dockerable.container import environment, limits, uwsgi_statistics
from dockerable.container.places import READY
from dockerable.container.probes import PATIENCE, get

EVERY = 5.0  # seconds between two questions
# The longest that two questions take. A turn that takes longer tells of the machine, or of a pause, not of the site.
TURN = EVERY + 2 * PATIENCE + 1


def timeout() -> float:
    """Seconds without a sign of life after which the site is broken, as the start has found; 0: never."""
    return float(environment.stored().get("WATCHDOG_TIMEOUT", 0))


def alive() -> bool:
    """Whether a worker answers through nginx."""
    with contextlib.suppress(OSError, ValueError):
        return get("/dockerable/live")[0] == 200
    return False


def progress() -> tuple[int, int] | None:
    """How many requests uWSGI has finished and how many workers it killed for slow ones; None: it says nothing."""
    with contextlib.suppress(OSError, ValueError):
        workers = uwsgi_statistics.workers()
        return sum(one.requests for one in workers), sum(one.harakiri_count for one in workers)
    return None


class Watchdog(threading.Thread):
    """Calls `broken` with the reason, once, when there has been no sign of life for too long."""

    def __init__(self, broken: Callable[[str], None]) -> None:
        super().__init__(daemon=True)
        self.broken = broken
        self.kills_before = limits.oom_kills() or 0

    def oom_kills(self) -> int:
        """How many processes were killed for want of memory since the site last answered."""
        return (limits.oom_kills() or 0) - self.kills_before

    def run(self) -> None:
        """Ask every few seconds until the site is broken."""
        silent: float | None = None
        seen: tuple[int, int] | None = None
        while True:
            began = time.monotonic()
            time.sleep(EVERY)
            if not READY.exists() or timeout() == 0 or alive():
                silent, self.kills_before = None, limits.oom_kills() or 0
                continue
            now = progress()
            if silent is None or (now and now != seen):
                silent, seen = 0.0, now
                continue
            silent += min(time.monotonic() - began, TURN)
            if 0 < timeout() <= silent:
                self.broken(reason(silent, now, self.oom_kills()))
                return


def reason(seconds: float, now: tuple[int, int] | None, kills: int) -> str:
    """Why the container cannot go on, for its last line."""
    what = "uWSGI's workers finish nothing" if now else "uWSGI does not answer either"
    memory = f", and {kills} processes were killed for want of memory" if kills else ""
    return f"the site has not answered for {seconds:.0f} s, {what}{memory}"
