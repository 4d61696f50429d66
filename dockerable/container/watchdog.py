"""The watchdog: a thread of PID 1 that notices when the site hangs, so that PID 1 can end the container.

It sends the health check's request every EVERY seconds. The site counts as broken if for WATCHDOG_TIMEOUT seconds no
request of the watchdog was answered and uWSGI neither finished a request nor killed a worker for a slow one: workers
busy with slow requests are not broken. Time counts only while uWSGI accepts requests, not while it starts.
"""

import contextlib
import threading
import time
from collections.abc import Callable

from dockerable.container import environment, limits, uwsgi_statistics
from dockerable.container.places import READY
from dockerable.container.probes import PATIENCE, get

EVERY = 5.0  # seconds between two checks
# The most seconds that one turn counts for: its pause and two requests. If it takes longer, the machine was suspended
# or overloaded, which is not the site's fault.
TURN = EVERY + 2 * PATIENCE + 1


def timeout() -> float:
    """WATCHDOG_TIMEOUT in seconds, as checked at the start; 0 is off."""
    return float(environment.stored().get("WATCHDOG_TIMEOUT", 0))


def alive() -> bool:
    """Whether a worker answers through nginx."""
    with contextlib.suppress(OSError, ValueError):
        return get("/dockerable/live")[0] == 200
    return False


def progress() -> tuple[int, int] | None:
    """How many requests uWSGI has finished and how many workers harakiri killed; None if uWSGI does not answer."""
    with contextlib.suppress(OSError, ValueError):
        workers = uwsgi_statistics.workers()
        return sum(one.requests for one in workers), sum(one.harakiri_count for one in workers)
    return None


class Watchdog(threading.Thread):
    """Calls `broken` once, with the reason, when the site has hung for WATCHDOG_TIMEOUT seconds."""

    def __init__(self, broken: Callable[[str], None]) -> None:
        super().__init__(daemon=True)
        self.broken = broken
        self.kills_before = limits.oom_kills() or 0

    def oom_kills(self) -> int:
        """How many processes were killed for want of memory since the site last answered."""
        return (limits.oom_kills() or 0) - self.kills_before

    def run(self) -> None:
        """Check every EVERY seconds until the site is broken."""
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
    """Why the site is broken, for the container's last log line."""
    what = "uWSGI's workers finish nothing" if now else "uWSGI does not answer either"
    memory = f", and {kills} processes were killed for want of memory" if kills else ""
    return f"the site has not answered for {seconds:.0f} s, {what}{memory}"
