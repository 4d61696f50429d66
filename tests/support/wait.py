"""Waiting for something to become true, instead of sleeping."""

import os
import socket
import time
from collections.abc import Callable
from typing import TypeVar

import httpx

Value = TypeVar("Value")
# Seconds between two questions of wait_until that take long.
LONGEST_PAUSE = 0.5


def wait_until(predicate: Callable[[], Value | None], timeout: float = 60.0, every: float = 0.05) -> Value:
    """The first true value of `predicate`, asked every `every` seconds. Raises TimeoutError after `timeout`.

    A question that takes longer is asked half of the time at most, since it takes CPU from what is waited for.
    An exception of the predicate counts as not yet; the last one is the cause of the TimeoutError.
    """
    until = time.monotonic() + timeout
    failure: Exception | None = None
    while True:
        asked = time.monotonic()
        try:
            if value := predicate():
                return value
        except (OSError, AssertionError, LookupError, httpx.TransportError) as reason:
            failure = reason
        if time.monotonic() >= until:
            raise TimeoutError(f"not true within {timeout} s: {predicate}") from failure
        time.sleep(max(every, min(time.monotonic() - asked, LONGEST_PAUSE)))


given: set[int] = set()


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody uses at the moment, and that this function gives to nobody else."""
    # Each process of tests has its own, by all bits but the last: the kernel prefers one kind of that.
    processes = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    ours = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:])
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
        if port not in given and port // 2 % processes == ours:
            given.add(port)
            return port
