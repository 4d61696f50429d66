"""Where the start's own lines go: to the log's tag `django` until this process becomes uWSGI, then to `uwsgi`."""

import contextlib
import os
import sys

from dockerable.container.places import LOG


def log(message: str) -> None:
    """Write one line to the log."""
    print(message, file=sys.stderr, flush=True)


def log_as_uwsgi() -> None:
    """Give stdout and stderr to uWSGI, whose lines follow, and to what the project prints instead of logging it."""
    with contextlib.suppress(OSError):
        descriptor = os.open(LOG / "uwsgi", os.O_WRONLY)
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)
        os.close(descriptor)
