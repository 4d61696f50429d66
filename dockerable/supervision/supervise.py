"""supervise: supervisord, which signals wake at once, and which ends when a program is given up.

Supervisor's own configuration, main loop and supervisorctl; what differs is in the two subclasses here, what becomes
of a program that ends in program_events.py.
Exits: 0; PID 1 makes the container's exit status of /run/failure.
"""

import contextlib
import os
import signal
import socket

from supervisor.medusa import asyncore_25 as asyncore
from supervisor.options import ServerOptions
from supervisor.states import SupervisorStates
from supervisor.supervisord import Supervisor

from dockerable.supervision.program_events import ProgramEvents


class Waker(asyncore.dispatcher):
    """One end of a pair of sockets; Python writes a byte to the other end at every signal, so that poll() returns.

    Without it supervisord notices the end of a program up to a second later.
    """

    def __init__(self) -> None:
        ours, signals = socket.socketpair()
        ours.setblocking(False)
        signals.setblocking(False)
        self.signals = signals
        super().__init__(ours)
        # For the main loop's first poll(), which otherwise takes a second before any program is started.
        signals.send(b"\0")
        signal.set_wakeup_fd(signals.fileno(), warn_on_full_buffer=False)

    def writable(self) -> bool:
        """Tell that nothing waits to be written."""
        return False

    def handle_read(self) -> None:
        """Take the bytes; that poll() has returned is enough."""
        self.recv(4096)


class Options(ServerOptions):
    """The configuration. Supervisor also makes its system calls through this class, two of which are extended."""

    mood: int

    def __init__(self) -> None:
        super().__init__()
        self.wait_statuses: dict[int, int] = {}
        self.program_events = ProgramEvents(self.wait_statuses, self.stop)

    def setsignals(self) -> None:
        """Prepare for signals and events: this is called last before the main loop, after events.clear()."""
        super().setsignals()
        Waker()
        self.program_events.subscribe()

    def waitpid(self) -> tuple[int, int]:
        """Keep the wait status for the program's event, which lacks it."""
        pid, status = super().waitpid()
        if pid:
            self.wait_statuses[pid] = status
        return pid, status

    def stop(self) -> None:
        """Have the main loop stop all programs and end."""
        if self.mood == SupervisorStates.RUNNING:
            self.mood = SupervisorStates.SHUTDOWN


class Supervisord(Supervisor):
    """Supervisor's main loop, without a second's wait for a group that has nothing left to stop."""

    def ordered_stop_groups_phase_1(self) -> None:
        """Skip the groups without a running process before the last one is stopped."""
        while self.stop_groups and not self.stop_groups[-1].get_unstopped_processes():
            self.stop_groups.pop()
        super().ordered_stop_groups_phase_1()


def main(arguments: list[str]) -> int:
    """Supervise by supervisord's own arguments until there is nothing left to. Returns the exit status."""
    options = Options()
    options.realize(arguments, doc=__doc__)
    options.first, options.test = True, False
    # A configuration file cannot leave a program out, and one that is stopped is trouble to supervisorctl.
    if os.environ.get("USE_SSL") != "on":
        options.process_group_configs = [one for one in options.process_group_configs if one.name != "certificate"]
    with contextlib.suppress(asyncore.ExitNow):
        Supervisord(options).main()
    return 0
