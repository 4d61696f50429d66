"""How a process ended, as the log says it after the process's name."""

import os
import signal

from dockerable.container import limits

# Followed by the exit status: what a process that was not killed ends with.
EXITED = "ended with status"


def describe(wait_status: int, *, out_of_memory: bool) -> str:
    """Say what os.wait() returned in words: "ended with status 1", "was killed by signal 9".

    With `out_of_memory` a SIGKILL is taken for the kernel's, which has run out of memory.
    """
    code = os.waitstatus_to_exitcode(wait_status)
    if code == -signal.SIGKILL and out_of_memory:
        return for_want_of_memory()
    return f"was killed by signal {-code}" if code < 0 else f"{EXITED} {code}"


def for_want_of_memory() -> str:
    """Say that the kernel killed the process, with the container's memory limit."""
    return f"was killed for want of memory (limit {(limits.memory() or 0) // limits.MIB} MB)"
