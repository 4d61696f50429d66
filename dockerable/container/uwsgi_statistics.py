"""uWSGI's account of its workers, which it gives as JSON to whoever connects to its statistics socket.

Apart from probes.py, since the health check has no use for it and is started every ten seconds.
"""

import json

from dockerable.container.places import UWSGI_STATISTICS
from dockerable.container.probes import PATIENCE, ask


class Worker:
    """One worker. A plain class, since PID 1 would pay 10 ms and 1.4 MB for the module `dataclasses`."""

    def __init__(
        self, *, number: int, pid: int, status: str, accepting: bool, requests: int = 0, harakiri_count: int = 0
    ) -> None:
        # From 1 on; the worker that takes its place has the same number.
        self.number = number
        self.pid = pid
        # "idle", "busy", or "cheap" while uWSGI does without it.
        self.status = status
        # Whether it accepts requests: from when it has loaded the application until it ends.
        self.accepting = accepting
        # Requests that it has finished; workers with this number that were killed for a slow one.
        self.requests, self.harakiri_count = requests, harakiri_count


def workers(*, patience: float = PATIENCE) -> list[Worker]:
    """All workers, within `patience` seconds.

    Raises OSError where uWSGI does not answer, ValueError where its answer is not the expected JSON.
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
