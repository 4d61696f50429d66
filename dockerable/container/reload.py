"""reload: new code, settings and nginx templates from what is mounted, without a failed request.

Usage: docker exec CONTAINER reload

First everything is checked as at a start (cmd.sh prepare_reload); where something is refused, or this program ends by
then, what runs is as before. Then nginx takes its configuration anew, and uWSGI replaces one worker after the other,
each when it has answered what it had. Variables cannot change in a running container, and migrations are not applied.
Reads: UWSGI_HARAKIRI. Writes: /run/nginx, /run/snapshot
Exits: 0; 64 called by another uid; 70 not all workers were replaced in time; 73 /run cannot be written; 75 the site
is starting or stopping; 78 what is mounted now, or nginx's configuration, is refused; 130 ended by SIGINT or SIGTERM.
"""

import contextlib
import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

from dockerable.container import environment, snapshot
from dockerable.container.probes import STATS, ask

USAGE, SOFTWARE, CANNOT_CREATE, TRY_LATER, CONFIG, INTERRUPTED = 64, 70, 73, 75, 78, 130
LOCK = Path("/run/reload.lock")
READY, FIFO = Path("/run/ready"), Path("/run/uwsgi.fifo")
NGINX_PID = Path("/run/nginx.pid")
# Seconds for a worker to load the application, beside what is in flight; for nginx to start a worker.
LOADING, NGINX = 60.0, 10.0
# Seconds in which every worker serves, and an old one is idle, after which no chain is under way: uWSGI looks at it
# once a second.
CHAIN = 3.0
# What the check began ends with this program, also where that is killed.
CHECK = ("setpriv", "--pdeathsig", "KILL", "/app/dockerable/cmd.sh", "prepare_reload")
GONE = "uWSGI has ended and is being started again (remedy: try again)"


class Refused(Exception):
    """The reload ends here: an exit status and what to say, if it has not been said."""

    def __init__(self, status: int, message: str = "") -> None:
        super().__init__(message)
        self.status = status


def log(message: str) -> None:
    print(f"reload: {message}", file=sys.stderr, flush=True)


def lock() -> int:
    """One reload at a time; the other waits. The descriptor, to be kept open."""
    descriptor = os.open(LOCK, os.O_CREAT | os.O_RDWR, 0o660)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        log("waiting for another reload")
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    return descriptor


def check(copy: Path) -> None:
    """Have what is mounted now copied there, and ask whether it could be served. Raises Refused."""
    if status := subprocess.run(CHECK, env={**os.environ, "DOCKERABLE_COPY": str(copy)}, check=False).returncode:
        told = CANNOT_CREATE if status == CANNOT_CREATE else CONFIG
        raise Refused(told, "refused (above: why); what was loaded before serves on")


def reload_nginx() -> None:
    """Let nginx take its configuration anew and wait for its first new worker. Raises Refused."""
    try:
        master = int(NGINX_PID.read_text())
        before = children(master)
        os.kill(master, signal.SIGHUP)
    except (OSError, ValueError):
        return  # it is being started, with the new configuration
    until = time.monotonic() + NGINX
    while children(master) <= before:
        if time.monotonic() > until:
            raise Refused(CONFIG, "nginx serves on with its old configuration; its last lines in the log say why")
        time.sleep(0.02)


def children(pid: int) -> set[int]:
    """The process's children; empty where it has ended."""
    with contextlib.suppress(OSError):
        return set(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))
    return set()


class Worker(NamedTuple):
    """One of uWSGI's workers; it serves once it has loaded the application, and until it ends."""

    pid: int
    serves: bool
    idle: bool


def workers() -> dict[int, Worker]:
    """uWSGI's workers by their numbers; empty while uWSGI does not answer."""
    try:
        told = json.loads(ask(STATS, patience=2))["workers"]
    except (OSError, ValueError):
        return {}
    return {
        one["id"]: Worker(one["pid"], bool(one["accepting"]), one["status"] == "idle")
        for one in told
        if one["status"] != "cheap"
    }


def wait_for_starts() -> None:
    """Until every worker serves, for a while: the chain passes over one that starts, which may load either version."""
    until = time.monotonic() + LOADING
    while not all(one.serves for one in workers().values()) and time.monotonic() < until:
        time.sleep(0.05)


def replace_workers() -> int:
    """uWSGI's chain reload, to its end; how many workers there are. Raises Refused."""
    before = {number: one.pid for number, one in workers().items()}
    if not before:
        raise Refused(TRY_LATER, GONE)
    begin_chain()
    # A worker may answer what it has for as long as harakiri allows.
    patience = LOADING + int(environment.read(required=False).values["UWSGI_HARAKIRI"])
    left, until = len(before), time.monotonic() + patience
    at_work = time.monotonic()
    while left:
        now = workers()
        new = sum(one.serves and one.pid != before.get(number) for number, one in now.items())
        if len(before) - new < left:
            left, until = len(before) - new, time.monotonic() + patience
        if time.monotonic() > until:
            raise Refused(SOFTWARE, f"{left} of {len(before)} workers were not replaced within {patience:.0f} s")
        # One that was told to end is not idle any more.
        passed_over = any(one.idle and one.pid == before.get(number) for number, one in now.items())
        if not passed_over or not all(one.serves for one in now.values()):
            at_work = time.monotonic()
        elif time.monotonic() - at_work > CHAIN:
            # The chain of a reload that was ended was under way, and it went on with that one's remaining workers.
            begin_chain()
            at_work = time.monotonic()
        time.sleep(0.05)
    return len(before)


def begin_chain() -> None:
    """Ask uWSGI to replace its workers one after the other; it does nothing where it is at it. Raises Refused."""
    try:
        # Waiting here for a uWSGI that was killed would never end: the next one makes another FIFO.
        with open(os.open(FIFO, os.O_WRONLY | os.O_NONBLOCK), "wb", buffering=0) as fifo:
            fifo.write(b"c")
    except OSError:
        raise Refused(TRY_LATER, GONE) from None


def take_what_is_mounted() -> int:
    """The reload, for who holds the lock; how many workers there are. Raises Refused, OSError."""
    # A start that makes the first copy is before both.
    if not READY.exists() or not snapshot.CURRENT.exists():
        raise Refused(TRY_LATER, "the site is not serving yet, or stopping: `healthcheck` tells (remedy: try again)")
    # Of a reload that was killed.
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
    os.umask(0o007)
    if os.getuid() != Path("/proc/1").stat().st_uid:
        log("error: called by another uid than the site's (remedy: docker exec without -u)")
        return USAGE
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        descriptor = lock()
        began = time.monotonic()
        count = take_what_is_mounted()
        os.close(descriptor)
    except Refused as refused:
        log(f"error: {refused}")
        return refused.status
    except OSError as reason:
        log(f"error: {reason} (remedy: room in /run, such as --tmpfs /run:mode=0770,size=64m)")
        return CANNOT_CREATE
    except KeyboardInterrupt:
        log("error: ended before all was replaced (remedy: reload again)")
        return INTERRUPTED
    log(f"{count} workers replaced in {time.monotonic() - began:.1f} s")
    return 0
