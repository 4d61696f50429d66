"""Steps that load the project run in a child process, so that the parent, which becomes uWSGI's master, does not.

Its workers load the project themselves: then a reload brings them changed code.
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
    """Run one step in a child process, with what is wrong logged.

    Returns the child's exit status, negative where a signal ended it: 0, that of the problem that ended the step, or
    70. With `ends_container` such a problem ends the container as well. SIGTERM kills the child and ends this process
    with `stopped`.
    """
    child = os.fork()
    if child == 0:
        status = SOFTWARE
        try:
            status = attempt(step, ends_container=ends_container)
        except BaseException:
            # Such as an exception whose text cannot be had.
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
    """Run one step and log what is wrong. Returns the exit status; raises what an exception raises when it is shown."""
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
    """Have PID 1 end the container; in a full /run the file is empty, which ends it too."""
    try:
        failure.write(final.status, "; ".join(final.problems))
    except OSError as reason:
        log(f"error: {FAILURE} cannot be written: {reason.strerror}")


def end_with_parent() -> None:
    """Have the kernel kill this process when its parent ends: nobody waits for the check of a killed reload."""
    # Imported here only: a start has no use for it.
    import ctypes

    pr_set_pdeathsig = 1
    ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)
    # The parent had ended before that call.
    if os.getppid() == 1:
        os._exit(SOFTWARE)
