"""supervise: supervisord with two changes: it reacts to signals at once, and it ends when a program is given up.

Configuration, main loop and supervisorctl are supervisor's. The subclasses here hold the changes; program_events.py
handles the end of a program.
Exits: 0; 64 as uid 0; PID 1 takes the container's exit status from /run/failure.
"""

import contextlib
import os
import signal
import socket

from supervisor.medusa import asyncore_25 as asyncore
from supervisor.options import ServerOptions
from supervisor.states import SupervisorStates
from supervisor.supervisord import Supervisor

from dockerable.container.refuse_root import refuse_root
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
        # Wakes the main loop's first poll(), which would otherwise wait a second before any program is started.
        signals.send(b"\0")
        signal.set_wakeup_fd(signals.fileno(), warn_on_full_buffer=False)

    def writable(self) -> bool:
        """Return False: nothing is ever written."""
        return False

    def handle_read(self) -> None:
        """Discard the bytes: their only purpose was to make poll() return."""
        self.recv(4096)


class Options(ServerOptions):
    """supervisord's configuration. Supervisor also makes its system calls through this class; two are extended here."""

    mood: int

    def __init__(self) -> None:
        super().__init__()
        self.wait_statuses: dict[int, int] = {}
        self.program_events = ProgramEvents(self.wait_statuses, self.stop)

    def setsignals(self) -> None:
        """Also set up Waker and event handlers: supervisor calls this right before its main loop."""
        super().setsignals()
        Waker()
        self.program_events.subscribe()

    def waitpid(self) -> tuple[int, int]:
        """Also store the wait status, which supervisor's events lack."""
        pid, status = super().waitpid()
        if pid:
            self.wait_statuses[pid] = status
        return pid, status

    def stop(self) -> None:
        """Make the main loop stop all programs and end."""
        if self.mood == SupervisorStates.RUNNING:
            self.mood = SupervisorStates.SHUTDOWN


class Supervisord(Supervisor):
    """Supervisor's main loop, without its wait of a second for each group whose processes have already stopped."""

    def ordered_stop_groups_phase_1(self) -> None:
        """Drop groups without running processes from the end of the list, which supervisor stops first."""
        while self.stop_groups and not self.stop_groups[-1].get_unstopped_processes():
            self.stop_groups.pop()
        super().ordered_stop_groups_phase_1()


def main(arguments: list[str]) -> int:
    """Run supervisord with its own arguments until it ends. Returns the exit status."""
    if status := refuse_root("supervise"):
        return status
    options = Options()
    options.realize(arguments, doc=__doc__)
    options.first, options.test = True, False
    # A configuration file cannot leave a program out, and supervisorctl reports a stopped one as a failure.
    if os.environ.get("USE_SSL") != "on":
        options.process_group_configs = [one for one in options.process_group_configs if one.name != "certificate"]
    with contextlib.suppress(asyncore.ExitNow):
        Supervisord(options).main()
    return 0
