"""healthcheck: whether the site is healthy; run by the image's HEALTHCHECK and by ctl.

Asks nginx on /run/health.sock, which answers by itself, and reads PID 1's verdict in /run/health.json (health.py).
It never waits behind a request, so a site that is slow under load stays healthy. With HEALTH_PATH the project answers
with that page instead: healthy is a status below 500.
Prints one line. Exits: 0 healthy, 1 not (Docker reserves all others).
"""

import os

from dockerable.container import health, phase
from dockerable.container.probes import get


def own_page() -> str:
    """HEALTH_PATH, checked; empty where it is not set, as it usually is."""
    if not os.environ.get("HEALTH_PATH"):
        return ""
    # Imported here only: the health check runs every ten seconds, and the table of variables doubles its CPU.
    from dockerable.container import environment

    return environment.read(required=False).values.get("HEALTH_PATH", "")


def problem(page: str) -> str:
    """Why the site is not healthy, in one line; empty if it is. `page` is HEALTH_PATH."""
    path = page or "/dockerable/nginx"
    try:
        status, body = get(path)
    except FileNotFoundError:
        return "nginx has not started yet"
    except (OSError, ValueError) as reason:
        return f"nginx does not answer: {reason}"
    # The title tells nginx's 503 of a starting site from one that the project answers.
    if status == 503 and b"<title>Starting" in body:
        return ": ".join(filter(None, ("the application is starting", phase.read())))
    if page:
        return "" if status < 500 else f"{path} gives {status}"
    return health.problem() if status == 200 else f"{path} gives {status}"


def main(_: list[str]) -> int:
    """Check and print one line. Returns 0 if the site is healthy, else 1."""
    found = problem(own_page())
    print(found or "healthy")
    return 1 if found else 0
