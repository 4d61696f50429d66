"""Handles supervisor's events about programs: logs them, and ends the container if a program is given up.

The reason is written to /run/failure; PID 1 logs it as its last line.
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

    `wait_statuses` has the wait statuses of ended programs by pid, which the events lack. `stop` makes supervisord stop
    all programs and end.
    """

    def __init__(self, wait_statuses: dict[int, int], stop: Callable[[], None]) -> None:
        self.wait_statuses, self.stop = wait_statuses, stop
        self.restarts = Restarts()
        self.oom_kills = OomKills()

    def subscribe(self) -> None:
        """Register the handlers with supervisor."""
        events.subscribe(events.ProcessStateEvent, self.changed)
        events.subscribe(events.Tick5Event, self.tell_oom_kills)

    def changed(self, event: events.ProcessStateEvent) -> None:
        """Log the start or end of a program, and stop all programs if the container cannot go on."""
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
        # The application's start may also have written this file.
        if FAILURE.exists():
            self.stop()

    def describe(self, status: int | None) -> str:
        """Words for how a program ended; `status` is None if the program did not start at all."""
        if status is None:
            return "ended"
        return wait_status.describe(status, out_of_memory=self.oom_kills.may_explain_an_end())

    def tell_oom_kills(self, _: events.Tick5Event) -> None:
        """Log one line for each process that the kernel has killed for want of memory."""
        for _ in range(self.oom_kills.report()):
            how = wait_status.for_want_of_memory()
            log(f"warning: a process {how}: fewer UWSGI_PROCESSES or more memory")

    def give_up(self, reason: str) -> None:
        """Write `reason` to /run/failure, unless it is empty or the file exists already."""
        if not reason or FAILURE.exists():
            return
        try:
            failure.write(SOFTWARE, reason)
        except OSError as full:
            # An empty file has been made nevertheless, and it also ends the container.
            log(f"error: {reason}; {FAILURE} cannot be written: {full.strerror}")
