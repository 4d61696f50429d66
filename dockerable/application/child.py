"""Runs steps that load the project in a child process: the parent becomes uWSGI's master and must not load it.

Each worker loads the project itself, so that a reload brings changed code.
"""

import contextlib
import os
import signal
import sys
import traceback
from collections.abc import Callable

from dockerable.application.log import log
from dockerable.application.refusals import Final, explain
from dockerable.container import failure
from dockerable.container.exit_status import SOFTWARE
from dockerable.container.places import FAILURE


def in_child(step: Callable[[], None], *, stopped: int = 0, ends_container: bool = False) -> int:
    """Run one step in a child process, and log its errors.

    Returns the child's exit status: 0, that of the error that ended the step, or 70; negative if a signal ended the
    child. With `ends_container` such an error also ends the container. SIGTERM kills the child and ends this process
    with status `stopped`.
    """
    child = os.fork()
    if child == 0:
        status = SOFTWARE
        try:
            status = attempt(step, ends_container=ends_container)
        except BaseException:
            # For example an exception that raises when it is turned into text.
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(status)

    def stop(*_: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            # The database rolls back a transaction that is cut.
            os.kill(child, signal.SIGKILL)
        os._exit(stopped)

    signal.signal(signal.SIGTERM, stop)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    return status


def attempt(step: Callable[[], None], *, ends_container: bool) -> int:
    """Run one step and log its errors. Returns the exit status. Raises if an error cannot be turned into text."""
    try:
        step()
        return 0
    except BaseException as reason:
        final = reason if isinstance(reason, Final) else explain(reason)
    for problem in final.problems:
        log(f"error: {problem}")
    if ends_container:
        write_failure(final)
    return final.status


def write_failure(final: Final) -> None:
    """Write /run/failure, so that PID 1 ends the container; if /run is full, an empty file has the same effect."""
    try:
        failure.write(final.status, "; ".join(final.problems))
    except OSError as reason:
        log(f"error: {FAILURE} cannot be written: {reason.strerror}")


def end_with_parent() -> None:
    """Make the kernel kill this process when its parent ends: a killed reload needs no check any more."""
    # Imported here, since a start does not need it.
    import ctypes

    pr_set_pdeathsig = 1
    ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)
    # The parent ended before that call.
    if os.getppid() == 1:
        os._exit(SOFTWARE)
