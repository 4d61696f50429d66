"""Words for a wait status, which follow a program's name in log lines."""

import os
import signal

from dockerable.container import limits

# The words for a process that was not killed; its exit status follows.
EXITED = "ended with status"


def describe(wait_status: int, *, out_of_memory: bool) -> str:
    """Words for a wait status: "ended with status 1", "was killed by signal 9".

    With `out_of_memory` a SIGKILL counts as the kernel's, sent for want of memory.
    """
    code = os.waitstatus_to_exitcode(wait_status)
    if code == -signal.SIGKILL and out_of_memory:
        return for_want_of_memory()
    return f"was killed by signal {-code}" if code < 0 else f"{EXITED} {code}"


def for_want_of_memory() -> str:
    """Words for a process that the kernel killed for want of memory, with the container's limit."""
    return f"was killed for want of memory (limit {(limits.memory() or 0) // limits.MIB} MB)"
