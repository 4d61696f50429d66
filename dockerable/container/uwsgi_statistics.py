"""The state of uWSGI's workers, which uWSGI sends as JSON to each client of its statistics socket.

Not part of probes.py: the health check, which starts every ten seconds, does not need it.
"""

import json

from dockerable.container.places import UWSGI_STATISTICS
from dockerable.container.probes import PATIENCE, ask


class Worker:
    """One worker. A plain class: the module `dataclasses` would cost PID 1 10 ms and 1.4 MB."""

    def __init__(
        self, *, number: int, pid: int, status: str, accepting: bool, requests: int = 0, harakiri_count: int = 0
    ) -> None:
        # Counts from 1; a worker's replacement has the same number.
        self.number = number
        self.pid = pid
        # "idle", "busy", or "cheap" while uWSGI has stopped it to save resources.
        self.status = status
        # True once the worker has loaded the application.
        self.accepting = accepting
        # Requests finished; how often harakiri killed a worker with this number.
        self.requests, self.harakiri_count = requests, harakiri_count


def workers(*, patience: float = PATIENCE) -> list[Worker]:
    """All workers.

    Raises OSError if uWSGI does not answer within `patience` seconds, ValueError if its answer is not as expected.
    """
    answer = json.loads(ask(str(UWSGI_STATISTICS), patience=patience))
    try:
        return [
            Worker(
                number=one["id"],
                pid=one["pid"],
                status=one["status"],
                accepting=bool(one["accepting"]),
                requests=one["requests"],
                harakiri_count=one["harakiri_count"],
            )
            for one in answer["workers"]
        ]
    except (KeyError, TypeError) as missing:
        raise ValueError(f"uWSGI's statistics lack {missing}") from None
