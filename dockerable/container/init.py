"""init: PID 1. Relays the log, starts cmd.sh's steps and with them supervisord, reaps, watches, ends the container.

Reads: LOG_FORMAT; /run/failure ("STATUS reason"), written by whoever found that the container cannot go on.
The last line of the log is this program's and says how it ended.
Exits: 0 stopped on request; the status of the step that refused the start; the status in /run/failure;
70 supervisord ended by itself, the site does not answer any more, or what is in /run/failure cannot be read;
73 /run cannot be written.
"""

import contextlib
import os
import select
import signal
import time

from dockerable.container import limits, variables
from dockerable.container.kinds import Invalid
from dockerable.container.relay import FOLDER, Relay
from dockerable.container.watchdog import Watchdog

FAILURE = "/run/failure"
START = ("/app/dockerable/cmd.sh", "start")
STOP = {signal.SIGTERM, signal.SIGINT, signal.SIGQUIT}
REFUSALS = (64, 65, 66, 73, 78)
SOFTWARE, CANNOT_CREATE = 70, 73
# Where a program that ended by itself and was given up said why, and how much of that (characters) the last line
# repeats. One that was killed said nothing of it.
SAYS_WHY = {"application": ("uwsgi", "django"), "nginx": ("nginx.error",)}
MOST_CAUSE = 300
# Among the numbers of signals: the watchdog's word.
BROKEN = b"\xff"


def reap() -> dict[int, int]:
    """Collect every child that has ended: pid to wait status."""
    ended = {}
    with contextlib.suppress(ChildProcessError):
        while (child := os.waitpid(-1, os.WNOHANG))[0]:
            ended[child[0]] = child[1]
    return ended


def start() -> int:
    """Run cmd.sh's steps, which end by becoming supervisord; its pid."""
    actions = (
        (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, f"{FOLDER}/cmd", os.O_WRONLY, 0),
        (os.POSIX_SPAWN_DUP2, 1, 2),
    )
    return os.posix_spawn(START[0], START, os.environ, file_actions=actions, setsigmask=())


def supervise(relay: Relay) -> tuple[int, bool, str, int]:
    """Run supervisord to its end.

    Returns its wait status, whether a stop was asked for, the watchdog's reason, and how many processes were killed
    for want of memory since the site last answered.
    """
    wake, woken = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(woken, warn_on_full_buffer=False)
    for number in STOP | {signal.SIGCHLD}:
        signal.signal(number, lambda *_: None)
    # cmd.sh blocks what could stop us before there is somebody to listen.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP)
    supervisor = start()
    stopping = False
    reasons: list[str] = []

    def broken(reason: str) -> None:
        # Kept here and in no file: /run may be full.
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
            # Nothing is left that a graceful end would save.
            if BROKEN in signals and not stopping:
                return 0, False, reasons[0], 0
            if set(signals) & STOP and not stopping:
                stopping = True
                relay.say("stopping")
                os.kill(supervisor, signal.SIGTERM)
            if supervisor in (ended := reap()):
                return ended[supervisor], stopping, "", watchdog.oom_kills()
        relay.work(ready - {wake})


def end_all() -> None:
    """End what supervisord left behind: SIGTERM, then after a second SIGKILL."""
    for number, patience in ((signal.SIGTERM, 1.0), (signal.SIGKILL, 1.0)):
        with contextlib.suppress(ProcessLookupError):
            os.kill(-1, number)
        until = time.monotonic() + patience
        while time.monotonic() < until:
            try:
                if os.waitpid(-1, os.WNOHANG)[0] == 0:
                    time.sleep(0.01)
            except ChildProcessError:
                return


def failure() -> tuple[int, str] | None:
    """Status and reason in FAILURE; None where it is not there. Raises OSError, ValueError where it cannot be read.

    Empty, for want of room in /run, it has ended the container all the same.
    """
    try:
        with open(FAILURE) as file:
            code, _, reason = file.read().strip().partition(" ")
    except FileNotFoundError:
        return None
    return int(code), reason


def verdict(status: int, stopping: bool, broken: str, oom_kills: int, relay: Relay) -> tuple[int, str]:
    """The container's exit status and its last line, which cmd.sh has written where it refused the start."""
    if broken:
        return SOFTWARE, f"error: {broken}"
    try:
        told = failure()
    except (OSError, ValueError):
        remedy = "(remedy: room in /run, such as --tmpfs /run:mode=0770,size=64m)"
        return SOFTWARE, f"error: what ended it cannot be read in {FAILURE}; the lines above tell {remedy}"
    if told:
        code, reason = told
        tags = SAYS_WHY.get(reason.partition(" ")[0], ()) if " ended with status " in reason else ()
        cause = next(filter(None, (relay.last_error(tag) for tag in tags)), "")
        return code, f"error: {reason}{': ' if cause else ''}{cause[-MOST_CAUSE:]}"
    if stopping or status == 0:
        return 0, "stopped"
    ended = os.waitstatus_to_exitcode(status)
    if ended in REFUSALS:
        return ended, ""
    how = f"was killed by signal {-ended}" if ended < 0 else f"ended with status {ended}"
    if ended == -signal.SIGKILL and oom_kills:
        how = f"was killed for want of memory (limit {(limits.memory() or 0) // limits.MIB} MB)"
    return SOFTWARE, f"error: supervisord {how}"


def log_format() -> str:
    """LOG_FORMAT, needed before the start has checked it; the default where it is wrong, which the start reports."""
    variable = variables.VARIABLES["LOG_FORMAT"]
    with contextlib.suppress(Invalid):
        return variable.check(os.environ.get("LOG_FORMAT") or variable.default_of({}))
    return variable.default_of({})


def main(_: list[str]) -> int:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(FAILURE)
    try:
        relay = Relay(json=log_format() == "json")
    except OSError as reason:
        remedy = "(remedy: --tmpfs /run:mode=0770, as in the compose files)"
        print(f"cmd: error: {reason.filename} cannot be made: {reason.strerror} {remedy}", flush=True)
        return CANNOT_CREATE
    status, stopping, broken, oom_kills = supervise(relay)
    end_all()
    relay.gather(now=True)
    code, last_line = verdict(status, stopping, broken, oom_kills, relay)
    relay.drain(last_line)
    return code
