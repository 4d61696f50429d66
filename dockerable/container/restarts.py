"""Decides when a program that ends again and again is given up, which ends the container.

It only counts: the caller reports each end of a program and learns whether to give the program up.
"""

import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable

# Always restarted: the site can be served without this program.
NEVER_GIVEN_UP = {"certificate"}
# A program fails if it ends within SOON seconds and before the site is ready. After MOST_FAILURES in a row it is given
# up. supervisord itself gives up only programs that end within startsecs and restarts all others without limit.
MOST_FAILURES, SOON = 5, 120
# A program that ends MOST_ENDS times within PERIOD seconds is given up even if the site was ready each time.
MOST_ENDS, PERIOD = 10, 120


class Restarts:
    """The ends of all programs. `clock` gives monotonic seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.last_end: dict[str, str] = {}
        self.failures: Counter[str] = Counter()
        self.ends: defaultdict[str, deque[float]] = defaultdict(lambda: deque(maxlen=MOST_ENDS))

    def ended(self, program: str, how: str, *, ran: float, ready: bool) -> str:
        """Count the end of a program that ran for `ran` seconds; `how` is text such as "was killed by signal 9".

        `ready` is whether the site accepts requests. Returns why the program is given up; empty if it is not.
        """
        self.last_end[program] = how
        if program in NEVER_GIVEN_UP:
            return ""
        self.failures[program] = self.failures[program] + 1 if ran < SOON and not ready else 0
        ends = self.ends[program]
        ends.append(self.clock())
        if self.failures[program] >= MOST_FAILURES:
            return f"{program} failed {MOST_FAILURES} times in a row, the last time it {how}"
        if len(ends) == MOST_ENDS and ends[-1] - ends[0] < PERIOD:
            return f"{program} ended {MOST_ENDS} times within {PERIOD} s, the last time it {how}"
        return ""

    def not_kept_running(self, program: str, spawn_error: str | None) -> str:
        """The reason for giving up a program that supervisord cannot keep running.

        `spawn_error` is supervisord's reason, if it has one.
        """
        # The last end is more precise: supervisord's reason may only be that the program ended too soon.
        how = self.last_end.get(program) or spawn_error or "ends at once"
        return f"{program} cannot be kept running, the last time it {how}"
