"""The certificate's state: /run/certificate.json for programs, and `certificate status` for people.

The JSON is one object with these keys; times are RFC 3339 in UTC.
  names           list of the site's names
  state           "ok", "temporary" (a self-signed one is served), "failing" (the last attempt failed, or the stored one
                  has a problem), "expired", or "different" (stored and served differ)
  source          "acme" or "own"
  stored, served  null, or an object: names, issuer, serial (hexadecimal), not_before, not_after, days_left
  problem         what is wrong with the stored one, or ""
  last_attempt, next_attempt   a time or null
  last_error      why the last attempt failed, or ""
"""

import json
import os
from dataclasses import asdict, dataclass
from typing import Literal

from cryptography import x509

from dockerable.certificates import clock, lineage, pairs, served
from dockerable.certificates.backoff import Attempts
from dockerable.certificates.request import Request
from dockerable.container import places

State = Literal["ok", "temporary", "failing", "expired", "different"]
Source = Literal["acme", "own"]


@dataclass(frozen=True)
class Certificate:
    """The object under `stored` and `served`."""

    names: tuple[str, ...]
    issuer: str
    serial: str
    not_before: str
    not_after: str
    days_left: float

    @classmethod
    def of(cls, leaf: x509.Certificate) -> "Certificate":
        """Describe a certificate."""
        return cls(
            names=pairs.names_of(leaf),
            issuer=pairs.issuer_of(leaf),
            serial=f"{leaf.serial_number:x}",
            not_before=clock.rfc3339(leaf.not_valid_before_utc),
            not_after=clock.rfc3339(leaf.not_valid_after_utc),
            days_left=round((leaf.not_valid_after_utc - clock.now()).total_seconds() / 86400, 2),
        )

    def text(self) -> str:
        """One line for people."""
        return (
            f"{' '.join(self.names)}, by {self.issuer}, serial {self.serial}, "
            f"until {self.not_after} ({self.days_left:.1f} days left)"
        )


@dataclass(frozen=True)
class Status:
    """The object of the module's docstring, in the order of its keys."""

    names: tuple[str, ...]
    state: State
    source: Source
    stored: Certificate | None
    served: Certificate | None
    problem: str
    last_attempt: str | None
    next_attempt: str | None
    last_error: str

    def json(self) -> str:
        """The status as JSON, without a newline at the end."""
        return json.dumps(asdict(self), indent=1)

    def text(self) -> str:
        """The status as lines for people, without a newline at the end."""
        lines = [
            f"names         {' '.join(self.names)}",
            f"state         {self.state}",
            f"stored        {self.stored.text() if self.stored else 'none'}",
            f"served        {self.served.text() if self.served else 'none'}",
            f"last attempt  {self.last_attempt or 'never'}",
            f"next attempt  {self.next_attempt or 'when it is time to renew'}",
        ]
        if self.problem:
            lines.append(f"problem       the stored certificate {self.problem}")
        if self.last_error:
            lines.append(f"last error    {self.last_error}")
        return "\n".join(lines)


def find(request: Request) -> Status:
    """Find the status from the stored certificate, the one that nginx serves, and the attempts."""
    attempts = Attempts.load(request)
    problem, leaf = "", None
    try:
        pair = pairs.Pair.read(*request.own) if request.own else lineage.stored(request)
        if refused := served.refusal(pair):
            raise pairs.Broken(refused)
        leaf = pair.leaf
        if missing := pair.uncovered(request.names):
            problem = f"does not cover {', '.join(missing)}"
    except pairs.Broken as reason:
        problem = str(reason)
    answered = served.ask_nginx(request)
    return Status(
        names=request.names,
        state=judge(leaf, answered, failing=bool(attempts.error or problem)),
        source="own" if request.own else "acme",
        stored=Certificate.of(leaf) if leaf else None,
        served=Certificate.of(answered) if answered else None,
        problem=problem,
        last_attempt=clock.rfc3339(attempts.last) if attempts.last else None,
        next_attempt=clock.rfc3339(attempts.next) if attempts.next else None,
        last_error=attempts.error,
    )


def judge(stored: x509.Certificate | None, answered: x509.Certificate | None, *, failing: bool) -> State:
    """The state, from the stored certificate, the served one (None: no answer), and whether there is any problem."""
    if answered and pairs.is_temporary(answered):
        return "temporary"
    if stored and pairs.has_expired(stored):
        return "expired"
    if stored and answered and answered != stored:
        return "different"
    return "failing" if failing else "ok"


def write(status: Status) -> None:
    """Write the status file atomically. Raises OSError."""
    # A name of its own: `certificate renew` and the supervised program may write at the same moment.
    new = places.CERTIFICATE_STATUS.with_suffix(f".{os.getpid()}")
    new.write_text(status.json() + "\n")
    new.rename(places.CERTIFICATE_STATUS)
