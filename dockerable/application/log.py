"""The log lines of the start: they have the tag `django` until this process becomes uWSGI, then `uwsgi`."""

import contextlib
import os
import sys

from dockerable.container.places import LOG


def log(message: str) -> None:
    """Write one line to the log."""
    print(message, file=sys.stderr, flush=True)


def log_as_uwsgi() -> None:
    """Redirect stdout and stderr to the tag `uwsgi`: from now on uWSGI and the project's prints write to them."""
    with contextlib.suppress(OSError):
        descriptor = os.open(LOG / "uwsgi", os.O_WRONLY)
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)
        os.close(descriptor)
