"""The back-off: when certbot may run again after it failed, was killed or met a rate limit.

`attempts.json` on the letsencrypt volume has the last error and the time of the next try, so that even a container
that restarts again and again does not reach an authority's rate limits. All else is derived from the stored lineage.
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

# Let's Encrypt allows five failed authorisations per name and hour, and five identical certificates in seven days.
FIRST_BACKOFF = datetime.timedelta(minutes=15)
LONGEST_BACKOFF = datetime.timedelta(days=1)
# The longest wait in seconds, whatever an authority's Retry-After, or a file written under a wrong clock, says.
LONGEST_WAIT = datetime.timedelta(days=7).total_seconds()
# No time after this one, in seconds since the epoch, can be shown: the end of the year 9999.
LATEST = 253402300799
# How many tries that were killed are repeated at once; after more, the back-off applies.
UNFINISHED_AT_ONCE = 2


@dataclass
class Attempts:
    """The content of attempts.json. Times are seconds since the epoch; 0 is never."""

    wanted: str = ""
    failures: int = 0
    unfinished: int = 0
    last: float = 0
    next: float = 0
    error: str = ""

    @classmethod
    def load(cls, request: Request) -> "Attempts":
        """Read the file; new Attempts if there is none that makes sense, or if it is about another certificate."""
        with suppress(OSError, ValueError, TypeError, RecursionError):
            found = cls(**json.loads((places.LETSENCRYPT / "attempts.json").read_text()))
            found.next = min(found.next, clock.now().timestamp() + LONGEST_WAIT)
            if found.wanted == cls.want(request) and found.makes_sense:
                return found
        return cls(wanted=cls.want(request))

    @property
    def makes_sense(self) -> bool:
        """Whether all is of its type, and counts and times are between 0 and LATEST."""
        counted = (self.failures, self.unfinished, self.last, self.next)
        return isinstance(self.error, str) and all(
            isinstance(value, int | float) and 0 <= value <= LATEST for value in counted
        )

    @staticmethod
    def want(request: Request) -> str:
        """Identifies the certificate that the attempts are for: names and authority."""
        return f"{' '.join(request.names)} from {request.server}"

    def save(self) -> None:
        """Write the file atomically. Raises OSError."""
        file = places.LETSENCRYPT / "attempts.json"
        new = file.with_suffix(".new")
        new.write_text(json.dumps(asdict(self), indent=1) + "\n")
        new.rename(file)

    def begin(self) -> None:
        """Record a try before certbot runs, so that the back-off applies even if this program is killed meanwhile."""
        self.last = clock.now().timestamp()
        self.unfinished += 1
        wait = 0.0 if self.unfinished <= UNFINISHED_AT_ONCE else backoff(self.unfinished - UNFINISHED_AT_ONCE)
        self.next = self.last + wait
        if wait:
            self.error = f"cut short {self.unfinished - 1} times in a row: the container or the program was stopped"
        self.save()

    def succeeded(self) -> None:
        """Record a success: the next try need not wait."""
        self.failures, self.unfinished, self.next, self.error = 0, 0, 0, ""
        self.save()

    def failed(self, error: str, retry_after: float) -> None:
        """Record a failure: the next try waits 15 minutes, doubled at each failure, up to a day.

        It waits longer if the authority says so: `retry_after` is in seconds since the epoch, or 0.
        """
        self.failures, self.unfinished, self.error = self.failures + 1, 0, error
        self.next = max(clock.now().timestamp() + backoff(self.failures), retry_after)
        self.save()


def backoff(failures: int) -> float:
    """Seconds to wait after this many failures in a row."""
    wait: datetime.timedelta = min(FIRST_BACKOFF * 2 ** min(failures - 1, 20), LONGEST_BACKOFF)
    return wait.total_seconds()


def retry_after(log: Path) -> float:
    """The last Retry-After in certbot's log, as seconds since the epoch; 0 if there is none."""
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
