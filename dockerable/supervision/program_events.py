"""What each change of a program's state leads to: a line of the log, and an end to all where a program is given up.

Supervisor reports the changes as events. The reason for an end goes into /run/failure, for PID 1's last line.
"""

import sys
import time
from collections.abc import Callable

from supervisor import events

from dockerable.container import failure, wait_status
from dockerable.container.exit_status import SOFTWARE
from dockerable.container.oom_kills import OomKills
from dockerable.container.places import FAILURE, READY
from dockerable.container.restarts import Restarts


def log(message: str) -> None:
    """Write one line to the log."""
    print(message, file=sys.stderr, flush=True)


class ProgramEvents:
    """The handlers of supervisor's events.

    `wait_statuses` holds those of ended programs by pid, since the events lack them; `stop` has supervisord stop all
    programs and end.
    """

    def __init__(self, wait_statuses: dict[int, int], stop: Callable[[], None]) -> None:
        self.wait_statuses, self.stop = wait_statuses, stop
        self.restarts = Restarts()
        self.oom_kills = OomKills()

    def subscribe(self) -> None:
        """Have supervisor call the handlers."""
        events.subscribe(events.ProcessStateEvent, self.changed)
        events.subscribe(events.Tick5Event, self.tell_oom_kills)

    def changed(self, event: events.ProcessStateEvent) -> None:
        """Log a change that matters, and stop all where the container cannot go on."""
        process = event.process
        program = process.config.name
        status = self.wait_statuses.pop(process.pid, None)
        if isinstance(event, events.ProcessStateStartingEvent):
            log(f"starting {program}")
        elif isinstance(event, events.ProcessStateFatalEvent):
            self.give_up(self.restarts.not_kept_running(program, process.spawnerr))
        elif isinstance(event, events.ProcessStateExitedEvent | events.ProcessStateBackoffEvent):
            how = self.describe(status)
            log(f"{'' if status == 0 else 'warning: '}{program} {how}")
            ran = time.time() - process.laststart
            self.give_up(self.restarts.ended(program, how, ran=ran, ready=READY.exists()))
        # The application's start makes this file, too.
        if FAILURE.exists():
            self.stop()

    def describe(self, status: int | None) -> str:
        """Say how a program ended; None is for one that did not start at all."""
        if status is None:
            return "ended"
        return wait_status.describe(status, out_of_memory=self.oom_kills.may_explain_an_end())

    def tell_oom_kills(self, _: events.Tick5Event) -> None:
        """Log one line for each process that the kernel has killed for want of memory."""
        for _ in range(self.oom_kills.report()):
            how = wait_status.for_want_of_memory()
            log(f"warning: a process {how}: fewer UWSGI_PROCESSES or more memory")

    def give_up(self, reason: str) -> None:
        """Write why the container cannot go on, unless that is known already or there is no reason."""
        if not reason or FAILURE.exists():
            return
        try:
            failure.write(SOFTWARE, reason)
        except OSError as full:
            # The empty file, which is made all the same, ends the container too.
            log(f"error: {reason}; {FAILURE} cannot be written: {full.strerror}")
