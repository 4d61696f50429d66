"""healthcheck: whether nginx, its socket, a uWSGI worker and Python answer; for HEALTHCHECK and ctl.

Asks nginx on /run/health.sock: by default application/wsgi.py answers, which touches no database; with
HEALTH_PATH that page of the project, where anything below 500 is healthy. Prints one line.
Exits: 0 healthy, 1 not (Docker reserves every other status).
"""

import os

from dockerable.container.probes import get


def own_page() -> str:
    """HEALTH_PATH, checked; empty where it is not set, as it usually is."""
    if not os.environ.get("HEALTH_PATH"):
        return ""
    # Imported here only: the health check runs every ten seconds, and the table of variables doubles its CPU.
    from dockerable.container import environment

    return environment.read(required=False).values.get("HEALTH_PATH", "")


def main(_: list[str]) -> int:
    """Ask and print one line. Returns 0 where the site is healthy, else 1."""
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
    # Another 503 may be the project's own.
    print("the application is starting" if status == 503 and b"<title>Starting" in body else f"{path} gives {status}")
    return 1
