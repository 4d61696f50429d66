"""The back-off: when certbot may be run again after it failed, was cut short or was told of a rate limit.

Kept on the letsencrypt volume, in `attempts.json`, are only the last error and the time of the next try:
whatever restarts the container, an authority's rate limits are not reached. All else is derived from the
stored lineage each time.
"""

import datetime
import email.utils
import json
import re
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from dockerable.certificates import clock
from dockerable.certificates.request import Request
from dockerable.container import places

# Let's Encrypt allows five failed authorisations a name and hour, and five equal certificates in seven days.
FIRST_BACKOFF = datetime.timedelta(minutes=15)
LONGEST_BACKOFF = datetime.timedelta(days=1)
# However far away an authority's Retry-After, or the file of a machine whose clock was wrong, puts the next try.
LONGEST_WAIT = datetime.timedelta(days=7).total_seconds()
# Tries that a kill cut short and that are repeated at once.
UNFINISHED_AT_ONCE = 2


@dataclass
class Attempts:
    """What is remembered across restarts. Times are seconds since the epoch; 0 is never."""

    wanted: str = ""
    failures: int = 0
    unfinished: int = 0
    last: float = 0
    next: float = 0
    error: str = ""

    @classmethod
    def load(cls, request: Request) -> "Attempts":
        """From the volume; a fresh one where there is none, or where something else is wanted now."""
        with suppress(OSError, ValueError, TypeError):
            found = cls(**json.loads((places.LETSENCRYPT / "attempts.json").read_text()))
            counted = (found.failures, found.unfinished, found.last, found.next)
            if found.wanted == cls.want(request) and all(isinstance(value, int | float) for value in counted):
                found.next = min(found.next, clock.now().timestamp() + LONGEST_WAIT)
                return found
        return cls(wanted=cls.want(request))

    @staticmethod
    def want(request: Request) -> str:
        """What the attempts are for, in words."""
        return f"{' '.join(request.names)} from {request.server}"

    def save(self) -> None:
        """Write it, whole or not at all. Raises OSError."""
        file = places.LETSENCRYPT / "attempts.json"
        new = file.with_suffix(".new")
        new.write_text(json.dumps(asdict(self), indent=1) + "\n")
        new.rename(file)

    def begin(self) -> None:
        """Before certbot runs: should nobody be left to say how it ended, the next try waits nevertheless."""
        self.last = clock.now().timestamp()
        self.unfinished += 1
        wait = 0.0 if self.unfinished <= UNFINISHED_AT_ONCE else backoff(self.unfinished - UNFINISHED_AT_ONCE)
        self.next = self.last + wait
        if wait:
            self.error = f"cut short {self.unfinished - 1} times in a row: the container or the program was stopped"
        self.save()

    def succeeded(self) -> None:
        """Nothing stands in the way of the next one."""
        self.failures, self.unfinished, self.next, self.error = 0, 0, 0, ""
        self.save()

    def failed(self, error: str, retry_after: float) -> None:
        """Exponential from 15 minutes; later where the authority says so (seconds since the epoch, or 0)."""
        self.failures, self.unfinished, self.error = self.failures + 1, 0, error
        self.next = max(clock.now().timestamp() + backoff(self.failures), retry_after)
        self.save()


def backoff(failures: int) -> float:
    """Seconds to wait after so many failures in a row."""
    wait: datetime.timedelta = min(FIRST_BACKOFF * 2 ** min(failures - 1, 20), LONGEST_BACKOFF)
    return wait.total_seconds()


def retry_after(log: Path) -> float:
    """The latest Retry-After in certbot's own log, as seconds since the epoch; 0 where it has none."""
    try:
        answers = log.read_text(errors="replace").split("Received response:\nHTTP ")[1:]
    except OSError:
        return 0
    refusals = [answer.partition("\n\n")[0] for answer in answers if answer.startswith(("429", "503"))]
    found = re.search(r"^Retry-After: *(.+?) *$", refusals[-1], re.M | re.I) if refusals else None
    if not found:
        return 0
    until = clock.now().timestamp() + LONGEST_WAIT
    with suppress(ValueError, TypeError, OverflowError):
        if found[1].isdigit():
            return min(clock.now().timestamp() + int(found[1]), until)
        return min(email.utils.parsedate_to_datetime(found[1]).timestamp(), until)
    return 0
