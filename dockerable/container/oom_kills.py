"""Counts the container's processes that the kernel killed for want of memory, so that each is logged once."""

import math
import time
from collections.abc import Callable

from dockerable.container import limits

# Seconds after a kill was reported during which the end of a process is still attributed to it.
RECENT = 2.0


class OomKills:
    """Counts kills since this object was made. `clock` gives monotonic seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.reported = limits.oom_kills() or 0
        self.last_report = -math.inf

    def unreported(self) -> int:
        """The number of kills since the last report."""
        return max((limits.oom_kills() or 0) - self.reported, 0)

    def report(self) -> int:
        """The number of kills since the last report; they count as reported from now on."""
        if new := self.unreported():
            self.reported += new
            self.last_report = self.clock()
        return new

    def may_explain_an_end(self) -> bool:
        """Whether a process that has just ended may have been killed for want of memory."""
        return self.unreported() > 0 or self.clock() - self.last_report < RECENT
