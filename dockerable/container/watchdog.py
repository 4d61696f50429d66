"""The watchdog: a thread of PID 1 that judges the site every EVERY seconds and notices when it hangs.

It writes its verdict to /run/health.json (health.py). The container ends when one of these has lasted for
WATCHDOG_TIMEOUT seconds:
- The site is silent: uWSGI neither finished a request nor killed a worker for a slow one, and the watchdog's own
  request was not answered. A site whose workers are busy with slow requests is not silent.
- A master does not work: uWSGI's (without it harakiri is off), nginx's, or supervisord. Requests may be answered all
  the same, but nothing that ends is started again.
Time counts only while uWSGI accepts requests, not while it starts.
"""

import contextlib
import threading
import time
from collections.abc import Callable
from pathlib import Path

from dockerable.container import environment, health, limits, uwsgi_statistics
from dockerable.container.places import NGINX_PID, READY, SUPERVISORD_PID
from dockerable.container.probes import PATIENCE, get
from dockerable.container.uwsgi_statistics import Worker

EVERY = 5.0  # seconds from one look at the site to the next
# The least seconds that uWSGI's statistics, and then the watchdog's own request, may take in the last look.
LEAST_PATIENCE = 1.0
# The least seconds between two looks, however long the first took.
LEAST_PAUSE = 0.5
# The most seconds that one look counts for. If it takes longer, the machine was suspended or overloaded, which is not
# the site's fault.
TURN = EVERY + PATIENCE
# Seconds between two looks for the end of a start: `ctl up` waits for the first verdict.
START_EVERY = 0.2
# Seconds of silence after which a site is stuck if a worker is free, or uWSGI does not answer either: two looks.
FREE_AND_SILENT = 8.0
# Seconds beyond UWSGI_HARAKIRI after which a site is stuck if all workers are busy: harakiri takes up to three seconds
# more, and a look five.
OVER_HARAKIRI = 8.0

# The file with a master's pid, and what it means that this master is stopped.
MASTERS = {
    SUPERVISORD_PID: "supervisord has been stopped (SIGSTOP), so no program is started again",
    NGINX_PID: "nginx's master has been stopped (SIGSTOP), so no worker is replaced and nothing reloaded",
}


def timeout() -> float:
    """WATCHDOG_TIMEOUT in seconds, as checked at the start; 0 is off."""
    return float(environment.stored().get("WATCHDOG_TIMEOUT", 0))


def busy_bound() -> float:
    """The seconds without progress after which a site is stuck although its workers are busy.

    At least one look before the container ends, so that the health check fails first.
    """
    bound = float(environment.stored().get("UWSGI_HARAKIRI", 60)) + OVER_HARAKIRI
    return min(bound, timeout() - EVERY) if timeout() else bound


def answers(patience: float) -> bool:
    """Whether a worker answers through nginx."""
    with contextlib.suppress(OSError, ValueError):
        return get("/dockerable/live", patience=patience)[0] == 200
    return False


def workers(patience: float) -> list[Worker] | None:
    """uWSGI's workers; None if uWSGI does not answer."""
    with contextlib.suppress(OSError, ValueError):
        return uwsgi_statistics.workers(patience=patience)
    return None


def is_stopped(pid_file: Path) -> bool:
    """Whether the process of that pid was stopped (SIGSTOP) and so does nothing."""
    with contextlib.suppress(OSError, IndexError):
        status = Path(f"/proc/{pid_file.read_text().strip()}/stat").read_text()
        return status.rpartition(")")[2].split()[0] == "T"
    return False


class Lasting:
    """For how many seconds something has been so at each look. A look's own time counts, but never more than TURN."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.until: float | None = None

    def look(self, so: bool, began: float) -> None:
        """Count a look that began at that time."""
        now = time.monotonic()
        if so:
            self.seconds += min(now - (began if self.until is None else self.until), TURN)
        else:
            self.seconds = 0.0
        self.until = now if so else None


class Watchdog(threading.Thread):
    """Calls `broken` once, with the reason, when the site has hung for WATCHDOG_TIMEOUT seconds."""

    def __init__(self, broken: Callable[[str], None]) -> None:
        super().__init__(daemon=True)
        self.broken = broken
        self.forget()

    def forget(self) -> None:
        """Begin anew, as after a start."""
        self.kills_before = limits.oom_kills() or 0
        self.silent, self.unattended = Lasting(), Lasting()
        # Whether the site has answered since it was started.
        self.has_answered = False
        # Requests finished and workers killed by harakiri, as expected at the next look if nothing happens.
        self.seen: tuple[int, int] | None = None

    def oom_kills(self) -> int:
        """How many processes were killed for want of memory since the site last answered."""
        return (limits.oom_kills() or 0) - self.kills_before

    def run(self) -> None:
        """Look every EVERY seconds until the site is broken."""
        while True:
            began = time.monotonic()
            if not READY.exists():
                self.forget()
                health.write(health.STARTING)
                wait_for_start()
            elif reason := self.look(began):
                self.broken(reason)
                return
            else:
                time.sleep(max(EVERY - (time.monotonic() - began), LEAST_PAUSE))

    def look(self, began: float) -> str:
        """Look once and write the verdict. Returns why the site is broken; empty if it is not."""
        patience = self.patience()
        now = workers(patience)
        left = max(patience - (time.monotonic() - began), LEAST_PATIENCE)
        silent = not self.has_progress(now) and not self.is_answered(now, left)
        self.silent.look(silent, began)
        if not silent:
            self.has_answered, self.kills_before = True, limits.oom_kills() or 0
        idle = idle_master(now)
        self.unattended.look(bool(idle), began)
        lasted = max(self.silent.seconds, self.unattended.seconds)
        # If everything hangs the master may have been silent one look longer: the site's silence says more.
        if silent and self.silent.seconds > lasted - TURN:
            why = silence(self.silent.seconds, now, self.oom_kills())
        else:
            why = f"for {lasted:.0f} s {idle}"
        stuck = lasted >= busy_bound() or (has_free_worker(now) and self.silent.seconds >= FREE_AND_SILENT)
        health.write(
            health.STUCK if stuck else health.WORKING if self.has_answered else health.STARTING,
            why if stuck else "",
            requests=sum(one.requests for one in now) if now else None,
            accepting=sum(one.accepting for one in now) if now else None,
            stuck=lasted,
        )
        return why if 0 < timeout() <= lasted else ""

    def patience(self) -> float:
        """The seconds that the next look may wait: PATIENCE, or what is left of WATCHDOG_TIMEOUT."""
        left = timeout() - max(self.silent.seconds, self.unattended.seconds) if timeout() else PATIENCE
        return min(max(left, LEAST_PATIENCE), PATIENCE)

    def has_progress(self, now: list[Worker] | None) -> bool:
        """Whether uWSGI has finished a request, or killed a worker for a slow one, since the last look."""
        if now is None:
            return False
        before, self.seen = self.seen, progress(now)
        return before is not None and before != self.seen

    def is_answered(self, now: list[Worker] | None, patience: float) -> bool:
        """Whether the watchdog's own request is answered."""
        if not answers(patience):
            return False
        if now is not None:
            requests, kills = progress(now)
            # That request is finished too, and must not count as the progress of the next look.
            self.seen = requests + 1, kills
        return True


def progress(now: list[Worker]) -> tuple[int, int]:
    """How many requests uWSGI has finished and how many workers harakiri killed."""
    return sum(one.requests for one in now), sum(one.harakiri_count for one in now)


def has_free_worker(now: list[Worker] | None) -> bool:
    """Whether a worker could answer at once; True also where uWSGI does not answer, so that nobody knows."""
    return now is None or any(one.accepting and one.status == "idle" for one in now)


def idle_master(now: list[Worker] | None) -> str:
    """Which master does not work, and what that means; empty if all work."""
    if now is None:
        return "uWSGI's master has not answered, so no slow request is ended and no worker replaced"
    for pid_file, what in MASTERS.items():
        if is_stopped(pid_file):
            return what
    return ""


def silence(seconds: float, now: list[Worker] | None, kills: int) -> str:
    """Why a silent site is broken, for the container's last log line."""
    what = "uWSGI does not answer either" if now is None else "uWSGI's workers finish nothing"
    memory = f", and {kills} processes were killed for want of memory" if kills else ""
    return f"the site has not answered for {seconds:.0f} s, {what}{memory}"


def wait_for_start() -> None:
    """Wait until uWSGI accepts requests, for EVERY seconds at most."""
    until = time.monotonic() + EVERY
    while not READY.exists() and time.monotonic() < until:
        time.sleep(START_EVERY)
