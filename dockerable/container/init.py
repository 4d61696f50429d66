"""init: PID 1. Starts `cmd.sh start`, which becomes supervisord; relays the log; reaps processes; runs the watchdog.

Reads: LOG_FORMAT; /run/failure ("STATUS REASON"), which a program writes if the container cannot go on.
The last line of the log comes from this program and says why the container ended.
Exits: 0 stopped on request; the status with which cmd.sh refused the start; the status in /run/failure;
70 supervisord ended by itself, the site hangs, or /run/failure cannot be read; 73 /run cannot be written.
"""

import contextlib
import os
import select
import signal
import time
from collections.abc import Callable

from dockerable.container import failure, variables, wait_status
from dockerable.container.exit_status import BAD_DATA, CANNOT_CREATE, CONFIG, NO_INPUT, SOFTWARE, USAGE
from dockerable.container.kinds import Invalid
from dockerable.container.places import FAILURE, LOG, ROOM_IN_RUN
from dockerable.container.relay import Relay
from dockerable.container.watchdog import Watchdog

START = ("/app/dockerable/cmd.sh", "start")
STOP = {signal.SIGTERM, signal.SIGINT, signal.SIGQUIT}
# The exit statuses of a start that cmd.sh refuses; cmd.sh has logged the reason.
REFUSALS = {USAGE, BAD_DATA, NO_INPUT, CANNOT_CREATE, CONFIG}
# The container's last line repeats the last error of a program that was given up, unless it was killed: the log tags to
# look for it under, and the most characters of it.
ERROR_TAGS = {"application": ("uwsgi", "django"), "nginx": ("nginx.error",)}
MOST_CAUSE = 300
# The watchdog's thread wakes the main loop with this byte. All other bytes in that pipe are signal numbers, at most 64.
BROKEN = b"\xff"
# Seconds that the processes left behind by supervisord have to end after SIGTERM, and then after SIGKILL.
TERM_PATIENCE, KILL_PATIENCE = 1.0, 1.0


class End:
    """How supervisord's run ended. A plain class: the module `dataclasses` would cost PID 1 10 ms and 1.4 MB."""

    def __init__(self, *, wait_status: int = 0, stopping: bool = False, broken: str = "", oom_kills: int = 0) -> None:
        # supervisord's; 0 if it still runs because the watchdog ended the container.
        self.wait_status = wait_status
        # Whether the container was asked to stop.
        self.stopping = stopping
        # Why the watchdog ended the container; empty if it did not.
        self.broken = broken
        # How many processes were killed for want of memory since the site last answered.
        self.oom_kills = oom_kills


def reap() -> dict[int, int]:
    """Reap every child that has ended. Returns pid to wait status."""
    ended = {}
    with contextlib.suppress(ChildProcessError):
        while (child := os.waitpid(-1, os.WNOHANG))[0]:
            ended[child[0]] = child[1]
    return ended


def start() -> int:
    """Run `cmd.sh start`, which becomes supervisord. Returns its pid."""
    actions = (
        (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, f"{LOG}/cmd", os.O_WRONLY, 0),
        (os.POSIX_SPAWN_DUP2, 1, 2),
    )
    return os.posix_spawn(START[0], START, os.environ, file_actions=actions, setsigmask=())


def supervise(relay: Relay) -> End:
    """Start supervisord and relay the log until supervisord has ended or the watchdog finds the site broken."""
    wake, woken = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(woken, warn_on_full_buffer=False)
    for number in STOP | {signal.SIGCHLD}:
        signal.signal(number, lambda *_: None)
    # cmd.sh has blocked these signals so that none arrives before its handler is set.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP)
    supervisor = start()
    stopping = False
    reasons: list[str] = []

    def broken(reason: str) -> None:
        # Kept in memory rather than in /run/failure: /run may be full.
        reasons.append(reason)
        os.write(woken, BROKEN)

    watchdog = Watchdog(broken)
    watchdog.start()
    relay.poll.register(wake, select.POLLIN)
    while True:
        timeout = relay.timeout()
        ready = {descriptor for descriptor, _ in relay.poll.poll(None if timeout is None else timeout * 1000)}
        if wake in ready:
            signals = os.read(wake, 4096)
            # supervisord is not asked to stop: it would wait for requests in flight, which hang.
            if BROKEN in signals and not stopping:
                return End(broken=reasons[0])
            if set(signals) & STOP and not stopping:
                stopping = True
                relay.say("stopping")
                os.kill(supervisor, signal.SIGTERM)
            if supervisor in (ended := reap()):
                return End(wait_status=ended[supervisor], stopping=stopping, oom_kills=watchdog.oom_kills())
        relay.work(ready - {wake})


def end_all() -> None:
    """End the processes that supervisord left behind: SIGTERM, then SIGKILL."""
    for number, patience in ((signal.SIGTERM, TERM_PATIENCE), (signal.SIGKILL, KILL_PATIENCE)):
        with contextlib.suppress(ProcessLookupError):
            os.kill(-1, number)
        until = time.monotonic() + patience
        while time.monotonic() < until:
            try:
                if os.waitpid(-1, os.WNOHANG)[0] == 0:
                    time.sleep(0.01)
            except ChildProcessError:
                return


def verdict(end: End, last_error: Callable[[str], str]) -> tuple[int, str]:
    """The container's exit status and last line; the line is empty if cmd.sh has already logged the reason.

    `last_error` returns the last message that was logged as an error under a tag.
    """
    if end.broken:
        return SOFTWARE, f"error: {end.broken}"
    try:
        failed = failure.read()
    except (OSError, ValueError):
        unread = f"{FAILURE}, which says why the container ended, cannot be read"
        return SOFTWARE, f"error: {unread}: see the errors above {ROOM_IN_RUN}"
    if failed:
        status, reason = failed
        return status, f"error: {with_cause(reason, last_error)}"
    if end.stopping or end.wait_status == 0:
        return 0, "stopped"
    if os.waitstatus_to_exitcode(end.wait_status) in REFUSALS:
        return os.waitstatus_to_exitcode(end.wait_status), ""
    how = wait_status.describe(end.wait_status, out_of_memory=end.oom_kills > 0)
    return SOFTWARE, f"error: supervisord {how}"


def log_format() -> str:
    """LOG_FORMAT, or its default if it is wrong; `cmd.sh start`, which runs later, reports a wrong one."""
    variable = variables.VARIABLES["LOG_FORMAT"]
    with contextlib.suppress(Invalid):
        return variable.check(os.environ.get("LOG_FORMAT") or variable.default_of({}))
    return variable.default_of({})


def with_cause(reason: str, last_error: Callable[[str], str]) -> str:
    """Add the last error of the program that the reason begins with, unless that program was killed."""
    program = reason.partition(" ")[0]
    tags = ERROR_TAGS.get(program, ()) if f" {wait_status.EXITED} " in reason else ()
    cause = next(filter(None, map(last_error, tags)), "")
    return f"{reason}: {cause[-MOST_CAUSE:]}" if cause else reason


def main(_: list[str]) -> int:
    """Run as PID 1. Returns the container's exit status."""
    FAILURE.unlink(missing_ok=True)
    try:
        relay = Relay(json=log_format() == "json")
    except OSError as reason:
        remedy = "(remedy: --tmpfs /run:mode=0770, as in the compose files)"
        print(f"cmd: error: {reason.filename} cannot be made: {reason.strerror} {remedy}", flush=True)
        return CANNOT_CREATE
    end = supervise(relay)
    end_all()
    relay.gather(now=True)
    status, last_line = verdict(end, relay.last_error)
    relay.drain(last_line)
    return status
