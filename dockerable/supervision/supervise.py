"""supervise: supervisord, woken by signals instead of looking once a second, and ending when it cannot go on.

Supervisor's own options, main loop and supervisorctl; what differs is in two small classes. Each change
of a program's state is one log line. A program that is given up, or one that wrote /run/failure itself
("STATUS reason"), stops them all; init makes the container's exit status of that file.
"""

import contextlib
import math
import os
import signal
import socket
import sys
import time
from collections import Counter, defaultdict, deque
from pathlib import Path

from supervisor import events
from supervisor.medusa import asyncore_25 as asyncore
from supervisor.options import ServerOptions
from supervisor.states import SupervisorStates
from supervisor.supervisord import Supervisor

from dockerable.container import limits

FAILURE = Path("/run/failure")
# uWSGI makes it when it accepts requests.
READY = Path("/run/ready")
SOFTWARE = 70
# Tried again for ever.
UNENDING = {"certificate"}
# Ends in a row, each within so many seconds and before the site was ready, after which a program is given up.
# What takes longer than startsecs to fail counts as running for supervisor, which would start it for ever.
MOST_FAILURES, SOON = 5, 120
# A program that was ready each time and still ends so often within so many seconds.
MOST_ENDS, WHILE = 10, 120


def log(message: str) -> None:
    print(message, file=sys.stderr, flush=True)


class Waker(asyncore.dispatcher):
    """The end of a socket pair that every signal writes a byte to, so that poll() returns at once."""

    def __init__(self) -> None:
        ours, signals = socket.socketpair()
        ours.setblocking(False)
        signals.setblocking(False)
        self.signals = signals
        super().__init__(ours)
        # The main loop waits a second before it starts the first program.
        signals.send(b"\0")
        signal.set_wakeup_fd(signals.fileno(), warn_on_full_buffer=False)

    def writable(self) -> bool:
        return False

    def handle_read(self) -> None:
        self.recv(4096)


class Options(ServerOptions):
    """Supervisor's options, which also are its operating system."""

    mood: int

    def __init__(self) -> None:
        super().__init__()
        self.ended: dict[int, int] = {}
        self.last_end: dict[str, str] = {}
        self.failures: Counter[str] = Counter()
        self.ends: defaultdict[str, deque[float]] = defaultdict(lambda: deque(maxlen=MOST_ENDS))
        self.oom_kills = limits.oom_kills() or 0
        self.oom_told = -math.inf

    def setsignals(self) -> None:
        # The last step before the main loop, and after events.clear().
        super().setsignals()
        Waker()
        events.subscribe(events.ProcessStateEvent, self.tell)
        events.subscribe(events.Tick5Event, self.tell_of_memory)

    def waitpid(self) -> tuple[int, int]:
        pid, status = super().waitpid()
        if pid:
            self.ended[pid] = status
        return pid, status

    def tell(self, event: events.ProcessStateEvent) -> None:
        """One line for a change that matters; the end where there is no going on."""
        program = event.process.config.name
        how = self.how_it_ended(event.process.pid)
        if isinstance(event, events.ProcessStateStartingEvent):
            log(f"starting {program}")
        elif isinstance(event, events.ProcessStateFatalEvent):
            # Supervisor's own word for a program that ran and ended says less.
            reason = self.last_end.get(program) or event.process.spawnerr or "ends at once"
            self.give_up(f"{program} cannot be kept running, the last time it {reason}")
        elif isinstance(event, events.ProcessStateExitedEvent | events.ProcessStateBackoffEvent):
            self.last_end[program] = how
            log(f"{'' if how.endswith(' status 0') else 'warning: '}{program} {how}")
            if program not in UNENDING:
                self.count(program, how, event.process.laststart)
        if FAILURE.exists() and self.mood == SupervisorStates.RUNNING:
            self.mood = SupervisorStates.SHUTDOWN

    def tell_of_memory(self, _: events.Tick5Event) -> None:
        """One line for each process that the kernel has killed because the container's memory is used up."""
        kills = limits.oom_kills() or 0
        if kills > self.oom_kills:
            self.oom_told = time.monotonic()
        for _ in range(kills - self.oom_kills):
            limit = f"limit {(limits.memory() or 0) // limits.MIB} MB"
            log(f"warning: a process was killed for want of memory ({limit}): fewer UWSGI_PROCESSES or more memory")
        self.oom_kills = kills

    def count(self, program: str, how: str, started: float) -> None:
        """One more end of a program; gives up what fails again and again."""
        soon = time.time() - started < SOON
        self.failures[program] = self.failures[program] + 1 if soon and not READY.exists() else 0
        ends = self.ends[program]
        ends.append(time.monotonic())
        if self.failures[program] >= MOST_FAILURES:
            self.give_up(f"{program} failed {MOST_FAILURES} times in a row, the last time it {how}")
        elif len(ends) == MOST_ENDS and ends[-1] - ends[0] < WHILE:
            self.give_up(f"{program} ended {MOST_ENDS} times within {WHILE} s, the last time it {how}")

    def how_it_ended(self, pid: int) -> str:
        status = self.ended.pop(pid, None)
        if status is None:
            return "ended"
        code = os.waitstatus_to_exitcode(status)
        # What was told of a moment ago may be what ended this one.
        just_told = time.monotonic() - self.oom_told < 2
        if code == -signal.SIGKILL and (just_told or (limits.oom_kills() or 0) > self.oom_kills):
            return f"was killed for want of memory (limit {(limits.memory() or 0) // limits.MIB} MB)"
        return f"was killed by signal {-code}" if code < 0 else f"ended with status {code}"

    def give_up(self, reason: str) -> None:
        if FAILURE.exists():
            return
        try:
            FAILURE.write_text(f"{SOFTWARE} {reason}\n")
        except OSError as full:
            # It is there all the same, and empty.
            log(f"error: {reason}; {FAILURE} cannot be written: {full.strerror}")


class Supervisord(Supervisor):
    """Supervisor's main loop, without a second's wait for a group that has nothing left to stop."""

    def ordered_stop_groups_phase_1(self) -> None:
        while self.stop_groups and not self.stop_groups[-1].get_unstopped_processes():
            self.stop_groups.pop()
        super().ordered_stop_groups_phase_1()


def main(arguments: list[str]) -> int:
    options = Options()
    options.realize(arguments, doc=__doc__)
    options.first, options.test = True, False
    # Supervisor has no conditions, and counts a program that is stopped as trouble.
    if os.environ.get("USE_SSL") != "on":
        options.process_group_configs = [one for one in options.process_group_configs if one.name != "certificate"]
    with contextlib.suppress(asyncore.ExitNow):
        Supervisord(options).main()
    return 0
