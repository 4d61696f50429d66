"""The certificate program: what it does when, what it says and how it ends."""

from datetime import timedelta

import pytest

from dockerable.certificates import program

DAY = timedelta(days=1)


@pytest.mark.parametrize(
    ("lifetime", "interval"),
    [
        (90 * DAY, timedelta(hours=12)),
        (45 * DAY, timedelta(hours=12)),
        (timedelta(hours=160), timedelta(hours=3.2)),
        (timedelta(minutes=10), timedelta(seconds=12)),
        (timedelta(seconds=30), timedelta(seconds=5)),
    ],
)
def test_how_often_is_asked_comes_from_the_lifetime(lifetime: timedelta, interval: timedelta) -> None:
    assert program.check_interval(lifetime) == interval.total_seconds()
