"""healthcheck: whether the site is healthy; run by the image's HEALTHCHECK and by ctl.

Sends a request through nginx's /run/health.sock to a uWSGI worker. By default application/wsgi.py answers, without
the project's code and database. With HEALTH_PATH the project answers with that page: healthy is a status below 500.
Prints one line. Exits: 0 healthy, 1 not (Docker reserves all others).
"""

import os

from dockerable.container import phase
from dockerable.container.probes import get


def own_page() -> str:
    """HEALTH_PATH, checked; empty where it is not set, as it usually is."""
    if not os.environ.get("HEALTH_PATH"):
        return ""
    # Imported here only: the health check runs every ten seconds, and the table of variables doubles its CPU.
    from dockerable.container import environment

    return environment.read(required=False).values.get("HEALTH_PATH", "")


def main(_: list[str]) -> int:
    """Check and print one line. Returns 0 if the site is healthy, else 1."""
    page = own_page()
    path = page or "/dockerable/live"
    try:
        status, body = get(path)
    except FileNotFoundError:
        print("nginx has not started yet")
        return 1
    except (OSError, ValueError) as reason:
        print(f"nginx does not answer: {reason}")
        return 1
    if status == 200 or (page and status < 500):
        print("healthy")
        return 0
    # The title tells nginx's 503 of a starting site from one that the project answers.
    if status == 503 and b"<title>Starting" in body:
        print(": ".join(filter(None, ("the application is starting", phase.read()))))
    else:
        print(f"{path} gives {status}")
    return 1
