"""reload: load the code, settings and nginx templates that are mounted now, without a failed request.

Usage: docker exec CONTAINER reload
       reload --logged   run by PID 1 at a SIGHUP: its lines go to the log, where the level comes first

First everything is checked as at a start (cmd.sh prepare_reload); if a check fails, what runs stays unchanged. Then
nginx loads its new configuration, and uWSGI replaces its workers one after the other, each after it has finished its
requests. Variables cannot change in a running container, and migrations are not applied.
Reads: UWSGI_HARAKIRI. Writes: /run/nginx, /run/snapshot
Exits: 0; 64 called by another uid; 70 not all workers were replaced in time; 73 /run cannot be written; 75 the site
is starting or stopping; 78 what is mounted now, or nginx's configuration, is refused; 130 ended by SIGINT or SIGTERM.
"""

import contextlib
import fcntl
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from dockerable.container import environment, nginx, snapshot, uwsgi_statistics
from dockerable.container.exit_status import CANNOT_CREATE, CONFIG, INTERRUPTED, SOFTWARE, TRY_LATER, USAGE
from dockerable.container.places import READY, ROOM_IN_RUN, UWSGI_FIFO
from dockerable.container.refuse_root import refuse_root
from dockerable.container.uwsgi_statistics import Worker

LOGGED = "--logged"
ERROR = "error: "
LOCK = Path("/run/reload.lock")
# Seconds that uWSGI may take to give its statistics.
STATISTICS_PATIENCE = 2.0
# Seconds that a new worker may take to load the application.
LOADING = 60.0
# Seconds that nginx may take to start a worker with its new configuration.
NGINX_PATIENCE = 10.0
# uWSGI's chain reload looks once a second for the next worker to replace. If all workers accept requests and an old one
# has been idle for this many seconds, the chain reload has ended.
CHAIN_ENDED = 3.0
# Seconds between two requests for the workers' states.
EVERY = 0.05
# setpriv has the kernel kill the check when this program ends, however it ends.
CHECK = ("setpriv", "--pdeathsig", "KILL", "/app/dockerable/cmd.sh", "prepare_reload")
GONE = "uWSGI has ended and is being started again (remedy: try again)"


class Refused(Exception):
    """The reload cannot go on: the exit status, and a message for the user."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def log(message: str, level: str = "") -> None:
    """Print one line for the caller, to stderr."""
    line = f"{level}reload: {message}" if LOGGED in sys.argv else f"reload: {level}{message}"
    print(line, file=sys.stderr, flush=True)


def lock() -> int:
    """Wait until no other reload runs. Returns the lock's descriptor: closing it ends the lock. Raises OSError."""
    descriptor = os.open(LOCK, os.O_CREAT | os.O_RDWR, 0o660)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        log("waiting for another reload")
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    return descriptor


def check(copy: Path) -> None:
    """Run cmd.sh prepare_reload, which copies what is mounted to `copy` and checks it. Raises Refused."""
    if status := subprocess.run(CHECK, env={**os.environ, "DOCKERABLE_COPY": str(copy)}, check=False).returncode:
        told = CANNOT_CREATE if status == CANNOT_CREATE else CONFIG
        raise Refused(told, "refused (above: why); what was loaded before serves on")


def reload_nginx() -> None:
    """Make nginx load the configuration that `check` has tested; wait for its first new worker. Raises Refused."""
    if (master := nginx.master()) is None:
        return
    before = children(master)
    try:
        os.kill(master, signal.SIGHUP)
    except OSError:
        # nginx has just ended; supervisord starts it again with the new configuration.
        return
    until = time.monotonic() + NGINX_PATIENCE
    while children(master) <= before:
        if time.monotonic() > until:
            raise Refused(CONFIG, "nginx serves on with its old configuration; its last lines in the log say why")
        time.sleep(0.02)


def children(pid: int) -> set[int]:
    """The pids of a process's children; empty where the process has ended."""
    with contextlib.suppress(OSError):
        return set(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))
    return set()


def workers() -> list[Worker]:
    """uWSGI's workers except those that it has stopped to save resources; empty if uWSGI does not answer."""
    try:
        return [one for one in uwsgi_statistics.workers(patience=STATISTICS_PATIENCE) if one.status != "cheap"]
    except (OSError, ValueError):
        return []


def wait_for_starts() -> None:
    """Wait until every worker accepts requests, for LOADING seconds at most.

    uWSGI's chain reload skips a worker that is starting, although that worker may have loaded the old version.
    """
    until = time.monotonic() + LOADING
    while not all(one.accepting for one in workers()) and time.monotonic() < until:
        time.sleep(EVERY)


def replace_workers() -> int:
    """Make uWSGI replace all workers, and wait until it has. Returns their number. Raises Refused."""
    old = {one.number: one.pid for one in workers()}
    if not old:
        raise Refused(TRY_LATER, GONE)
    begin_chain()
    # Seconds for each worker: it may finish its requests, for as long as harakiri allows, and then loads.
    patience = LOADING + int(environment.read(required=False).values["UWSGI_HARAKIRI"])
    left = len(old)
    until = time.monotonic() + patience
    chain_seen = time.monotonic()
    while left:
        now = workers()
        replaced = sum(one.accepting and one.pid != old.get(one.number) for one in now)
        if len(old) - replaced < left:
            left = len(old) - replaced
            until = time.monotonic() + patience
        if time.monotonic() > until:
            raise Refused(SOFTWARE, f"{left} of {len(old)} workers were not replaced within {patience:.0f} s")
        if not was_passed_over(old, now):
            chain_seen = time.monotonic()
        elif time.monotonic() - chain_seen > CHAIN_ENDED:
            # uWSGI was still in the chain reload of an earlier, interrupted `reload`: it ignored our request, and that
            # chain replaced only the workers that it had not reached before.
            begin_chain()
            chain_seen = time.monotonic()
        time.sleep(EVERY)
    return len(old)


def was_passed_over(old: dict[int, int], now: list[Worker]) -> bool:
    """Whether no worker is being replaced now although an old one is left (`old`: number to pid).

    An old worker that is about to be replaced and still finishes a request is busy, not idle.
    """
    return all(one.accepting for one in now) and any(
        one.status == "idle" and one.pid == old.get(one.number) for one in now
    )


def begin_chain() -> None:
    """Request a chain reload of uWSGI, which ignores the request during another one. Raises Refused."""
    try:
        # O_NONBLOCK: if uWSGI was killed the FIFO has no reader, and opening it would block.
        with open(os.open(UWSGI_FIFO, os.O_WRONLY | os.O_NONBLOCK), "wb", buffering=0) as fifo:
            fifo.write(b"c")
    except OSError:
        raise Refused(TRY_LATER, GONE) from None


def take_what_is_mounted() -> int:
    """Check and load what is mounted; the caller holds the lock. Returns the number of workers.

    Raises Refused, and OSError if /run cannot be written.
    """
    # If READY or the copy in service is missing, the start may still be making its own copy.
    if not READY.exists() or not snapshot.CURRENT.exists():
        raise Refused(TRY_LATER, "the site is not serving yet, or stopping: `healthcheck` tells (remedy: try again)")
    # Copies that a killed reload left.
    snapshot.discard()
    copy = snapshot.place()
    try:
        check(copy)
        reload_nginx()
        wait_for_starts()
        if not workers():
            raise Refused(TRY_LATER, GONE)
        snapshot.commit(copy)
    except BaseException:
        snapshot.discard()
        raise
    count = replace_workers()
    snapshot.discard(older=True)
    return count


def main(_: list[str]) -> int:
    """Reload. Returns the exit status."""
    if status := refuse_root("reload"):
        return status
    os.umask(0o007)
    if os.getuid() != Path("/proc/1").stat().st_uid:
        log("called by another uid than the site's (remedy: docker exec without -u)", ERROR)
        return USAGE
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        descriptor = lock()
        began = time.monotonic()
        count = take_what_is_mounted()
        os.close(descriptor)
    except Refused as refused:
        log(str(refused), ERROR)
        return refused.status
    except OSError as reason:
        log(f"{reason} {ROOM_IN_RUN}", ERROR)
        return CANNOT_CREATE
    except KeyboardInterrupt:
        log("ended before all was replaced (remedy: reload again)", ERROR)
        return INTERRUPTED
    log(f"{count} workers replaced in {time.monotonic() - began:.1f} s")
    return 0
