"""init: PID 1. Starts `cmd.sh start`, which becomes supervisord; relays the log; reaps processes; runs the watchdog.

SIGTERM stops the container. SIGHUP runs `reload`, whose lines are logged; SIGUSR1 and SIGUSR2 do nothing. So it is too
where `docker run --init` puts another program in front, which would pass them on to end this one.
Reads: LOG_FORMAT; /run/failure ("STATUS REASON"), which a program writes if the container cannot go on.
The last line of the log comes from this program and says why the container ended.
Exits: 0 stopped on request; the status with which cmd.sh refused the start; the status in /run/failure; 64 as uid 0;
70 supervisord ended by itself or cannot be started, the site hangs, or /run/failure cannot be read; 73 /run cannot be
written.
"""

import contextlib
import errno
import os
import select
import signal
import stat
import time
from collections.abc import Callable

from dockerable.container import failure, variables, wait_status
from dockerable.container.exit_status import BAD_DATA, CANNOT_CREATE, CONFIG, NO_INPUT, SOFTWARE, USAGE
from dockerable.container.kinds import Invalid
from dockerable.container.log_lines import Source
from dockerable.container.places import DESCRIPTORS, FAILURE, LOG, ROOM_IN_RUN, RUN, who
from dockerable.container.refuse_root import refuse_root
from dockerable.container.relay import Relay
from dockerable.container.watchdog import Watchdog

START = ("/app/dockerable/cmd.sh", "start")
RELOAD = ("/app/dockerable/bin/reload", "--logged")
# cmd.sh has blocked all of these but SIGCHLD, so that none arrives before its handler is set.
STOP = {signal.SIGTERM, signal.SIGINT, signal.SIGQUIT}
HANDLED = {*STOP, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGCHLD}
# The exit statuses of a start that cmd.sh refuses; cmd.sh has logged the reason.
REFUSALS = {USAGE, BAD_DATA, NO_INPUT, CANNOT_CREATE, CONFIG}
# The container's last line repeats the last error of a program that was given up, unless it was killed: the log tags to
# look for it under, and the most characters of it.
ERROR_TAGS = {"application": ("uwsgi", "django"), "nginx": ("nginx.error",)}
MOST_CAUSE = 300
# The watchdog's thread wakes the main loop with this byte. All other bytes in that pipe are signal numbers, at most 64.
BROKEN = b"\xff"
TMPFS = "(remedy: --tmpfs /run:mode=0770, as in the compose files)"
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


def start(command: tuple[str, ...]) -> int:
    """Run a command in a process group of its own, its output to the log. Returns its pid. Raises OSError."""
    actions = (
        (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, f"{LOG}/cmd", os.O_WRONLY, 0),
        (os.POSIX_SPAWN_DUP2, 1, 2),
    )
    return os.posix_spawn(command[0], command, os.environ, file_actions=actions, setsigmask=(), setpgroup=0)


class Reloads:
    """The runs of `reload` that SIGHUP asks for, one at a time. A SIGHUP during one leads to another after it."""

    def __init__(self, relay: Relay) -> None:
        self.relay = relay
        self.wanted = False
        self.pid = 0

    def proceed(self, ended: dict[int, int]) -> None:
        """Start a run if one is wanted and none is going on; `ended` are the processes that have ended."""
        if self.pid in ended:
            self.pid = 0
        if self.wanted and not self.pid:
            self.wanted = False
            self.relay.say("reloading, as SIGHUP asks")
            try:
                self.pid = start(RELOAD)
            except OSError as reason:
                self.relay.say(f"error: reload cannot be started: {reason}")

    def end(self) -> None:
        """End the run that is going on, if any, and what it has started: what is not finished has no effect."""
        if self.pid:
            os.killpg(self.pid, signal.SIGKILL)


def supervise(relay: Relay) -> End:
    """Start supervisord and relay the log until supervisord has ended or the watchdog finds the site broken."""
    wake, woken = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(woken, warn_on_full_buffer=False)
    for number in HANDLED:
        signal.signal(number, lambda *_: None)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, HANDLED)
    supervisor = start(START)
    reloads = Reloads(relay)
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
                reloads.end()
                os.kill(supervisor, signal.SIGTERM)
            if supervisor in (ended := reap()):
                return End(wait_status=ended[supervisor], stopping=stopping, oom_kills=watchdog.oom_kills())
            reloads.wanted = (reloads.wanted or signal.SIGHUP in signals) and not stopping
            reloads.proceed(ended)
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


def close_run() -> str:
    """Close /run to users other than its owner and group. Returns a warning where this uid may not; else nothing.

    Whoever may write there can replace the settings' copy, the certificate and nginx's configuration.
    """
    if not (mode := stat.S_IMODE(RUN.stat().st_mode)) & stat.S_IWOTH:
        return ""
    try:
        RUN.chmod(0o770)
    except OSError:
        return f"warning: {RUN} may be written by everybody, mode {mode:04o} {TMPFS}"
    return ""


def explain(reason: Exception) -> tuple[int, str]:
    """The exit status and the message for what keeps PID 1 from starting, such as a limit of the container."""
    message = f"init cannot start: {type(reason).__name__}: {reason}"
    number = (reason.errno or 0) if isinstance(reason, OSError) else 0
    if number in (errno.EMFILE, errno.ENFILE):
        return SOFTWARE, f"{message} {DESCRIPTORS}"
    if number == errno.EAGAIN or isinstance(reason, RuntimeError):
        return SOFTWARE, f"{message} (remedy: a higher --pids-limit)"
    file = str(getattr(reason, "filename", None) or "")
    if not file.startswith("/run/"):
        return SOFTWARE, message
    remedy = ROOM_IN_RUN if number == errno.ENOSPC else TMPFS
    if number == errno.EACCES and 0 not in (os.getgid(), *os.getgroups()):
        remedy = f"(remedy: --user {os.getuid()}:0, since {RUN} belongs to group 0)"
    return CANNOT_CREATE, f"{RUN} cannot be written by {who()}: {os.strerror(number)}: {file} {remedy}"


def main(_: list[str]) -> int:
    """Run as PID 1. Returns the container's exit status."""
    if status := refuse_root("cmd"):
        return status
    json = log_format() == "json"
    try:
        warning = close_run()
        FAILURE.unlink(missing_ok=True)
        relay = Relay(json=json)
    except Exception as reason:
        status, message = explain(reason)
        os.write(1, Source("cmd", json=json).line(f"error: {message}"))
        return status
    if warning:
        relay.say(warning)
    try:
        end = supervise(relay)
    except Exception as reason:
        # What was started must not go on alone, and the log must be written.
        end = End(broken=explain(reason)[1])
    end_all()
    relay.gather(now=True)
    status, last_line = verdict(end, relay.last_error)
    relay.drain(last_line)
    return status
