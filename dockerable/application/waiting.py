"""Refuses a request that has waited too long for a worker, and drops one whose client has left.

uWSGI has no queue of its own: connections wait in the socket's backlog, which a busy worker cannot look at. So the
worker that takes a request compares the time at which nginx sent it. nginx waits longer than both together may take
(container/patience.py): a client gets an answer or this refusal, not a timeout of nginx.
"""

import select
import time
from typing import Any

from dockerable.application.uncaught import StartResponse
from dockerable.container import patience

# nginx/error-pages.conf answers 503 there: the application's own page would need the form that the client prefers.
NOT_BEGUN = "@not_begun"
# Seconds of waiting from which on it is worth a system call to see whether the client is still there.
LONG = 1.0


def refused(environ: dict[str, Any], harakiri: int) -> bool:
    """Whether this request shall not be begun; `harakiri` is UWSGI_HARAKIRI.

    Takes the time at which nginx sent the request out of `environ`. A wait that is longer than nginx's own patience is
    a jump of the clock, since nginx has given up such a request.
    """
    waited = time.time() - float(environ.pop("DOCKERABLE_SENT", "inf"))
    if not LONG < waited < patience.of_nginx(harakiri):
        return False
    return waited > patience.of_a_request(harakiri) or has_left()


def has_left() -> bool:
    """Whether nginx has closed this request's connection, as it does when the client has left."""
    import uwsgi

    asked = select.poll()
    asked.register(uwsgi.connection_fd(), 0)
    return bool(asked.poll(0))


def refuse(start_response: StartResponse) -> list[bytes]:
    """Let nginx answer 503. The status is nginx's, and with a 503 here uWSGI would log the refusal as an error."""
    start_response("200 OK", [("X-Accel-Redirect", NOT_BEGUN), ("Content-Length", "0")])
    return [b""]
