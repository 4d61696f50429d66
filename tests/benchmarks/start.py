"""How long a start and an idle stop take, from outside: tests/.venv/bin/python -m tests.benchmarks.start [RUNS]

Times count from the engine's StartedAt of a container whose data volume is already migrated.
"""

import datetime
import statistics
import sys
import time

import httpx

from tests.support.stack import Stack


def since_start(stack: Stack) -> float:
    """Seconds since the container's process was started."""
    started = datetime.datetime.fromisoformat(stack.state()["StartedAt"][:26] + "+00:00")
    return time.time() - started.timestamp()


def once(stack: Stack) -> dict[str, float]:
    """Start it, wait for the first answer and the first page, stop it while it is idle: seconds each."""
    stack.start()
    offset = since_start(stack) - time.monotonic()
    figures: dict[str, float] = {}
    with stack.client() as client:
        while "first page" not in figures:
            try:
                status = client.get("/").status_code
            except httpx.TransportError:
                time.sleep(0.005)
                continue
            figures.setdefault("first answer", time.monotonic() + offset)
            if status == 200:
                figures["first page"] = time.monotonic() + offset
            time.sleep(0.005)
    time.sleep(2)
    began = time.monotonic()
    stack.stop()
    figures["idle stop"] = time.monotonic() - began
    return figures


def main(runs: int) -> None:
    first = Stack()
    results = []
    try:
        first.up()
        for _ in range(runs):
            stack = Stack(volume=first.volume)
            try:
                results.append(once(stack))
            finally:
                stack.remove()
    finally:
        first.remove()
    for name in results[0]:
        values = sorted(result[name] for result in results)
        print(f"{name:13} median {statistics.median(values):.2f} s, from {values[0]:.2f} to {values[-1]:.2f} s")


if __name__ == "__main__":
    main(int(sys.argv[1]) if sys.argv[1:] else 7)
