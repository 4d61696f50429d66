"""The time, and how it is written in logs and JSON."""

import datetime


def now() -> datetime.datetime:
    """The current time, in UTC."""
    return datetime.datetime.now(datetime.UTC)


def rfc3339(time: datetime.datetime | float) -> str:
    """A time, or seconds since the epoch, in UTC and to the second: 2027-01-31T09:12:44Z."""
    if not isinstance(time, datetime.datetime):
        time = datetime.datetime.fromtimestamp(time, datetime.UTC)
    return time.strftime("%Y-%m-%dT%H:%M:%SZ")
