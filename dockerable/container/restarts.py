"""When a program that ends again and again is given up, which ends the container.

Only counts and decides: who starts the programs reports each end, and is told when to stop.
"""

import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable

# Restarted for ever: the site serves on without it.
NEVER_GIVEN_UP = {"certificate"}
# A failure is an end within SOON seconds of the program's start and before the site was ready. So many in a row are
# the limit: supervisord itself gives up only what ends within startsecs, and restarts anything slower for ever.
MOST_FAILURES, SOON = 5, 120
# So many ends within PERIOD seconds are the limit of a program that makes the site ready each time.
MOST_ENDS, PERIOD = 10, 120


class Restarts:
    """The ends of all programs. `clock` gives monotonic seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.last_end: dict[str, str] = {}
        self.failures: Counter[str] = Counter()
        self.ends: defaultdict[str, deque[float]] = defaultdict(lambda: deque(maxlen=MOST_ENDS))

    def ended(self, program: str, how: str, *, ran: float, ready: bool) -> str:
        """Count the end of a program that ran for `ran` seconds, `how` as in "was killed by signal 9".

        `ready` is whether the site accepts requests. Returns why the program is given up; empty: start it again.
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
        """Why a program is given up that could not be kept running; `spawn_error` is why it did not start at all."""
        # How it ended says more than the error, which may stand for "it ended too soon".
        how = self.last_end.get(program) or spawn_error or "ends at once"
        return f"{program} cannot be kept running, the last time it {how}"
