"""The processes of this container that the kernel has killed for want of memory: each is reported once."""

import math
import time
from collections.abc import Callable

from dockerable.container import limits

# Seconds after its report in which a kill may still explain why a process has ended.
RECENT = 2.0


class OomKills:
    """Counts from its making on. `clock` gives monotonic seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.reported = limits.oom_kills() or 0
        self.last_report = -math.inf

    def unreported(self) -> int:
        """How many came since the last report."""
        return max((limits.oom_kills() or 0) - self.reported, 0)

    def report(self) -> int:
        """How many came since the last report; from now on they are reported."""
        if new := self.unreported():
            self.reported += new
            self.last_report = self.clock()
        return new

    def may_explain_an_end(self) -> bool:
        """Whether a process that was found ended just now may be one of them."""
        return self.unreported() > 0 or self.clock() - self.last_report < RECENT
