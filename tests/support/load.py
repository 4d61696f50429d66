"""Several clients that send requests without a pause, and the answers that they got."""

import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import httpx

from tests.support.stack import Stack


class Load:
    """The answers: statuses or names of errors, and the seconds that the slowest request took."""

    def __init__(self) -> None:
        self.answered: Counter[str] = Counter()
        self.slowest = 0.0

    def failed(self) -> dict[str, int]:
        """The number of each answer other than 200."""
        return {how: times for how, times in self.answered.items() if how != "200"}


@contextmanager
def load(stack: Stack, path: str, clients: int = 4, pause: float = 0.0) -> Iterator[Load]:
    """Clients that ask for `path` until the end of the block, each on one connection, `pause` seconds between two."""
    seen, end = Load(), threading.Event()

    def visit() -> None:
        with stack.client() as client:
            while not end.is_set():
                began = time.monotonic()
                try:
                    how = str(client.get(path).status_code)
                except httpx.HTTPError as reason:
                    how = type(reason).__name__
                seen.answered[how] += 1
                seen.slowest = max(seen.slowest, time.monotonic() - began)
                end.wait(pause)

    threads = [threading.Thread(target=visit) for _ in range(clients)]
    for thread in threads:
        thread.start()
    try:
        yield seen
    finally:
        end.set()
        for thread in threads:
            thread.join()
