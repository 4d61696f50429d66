"""manage: runs the project's manage.py, in `docker exec CONTAINER manage ...` and `docker run IMAGE manage ...`.

manage.py gets the values that the site runs with, and umask 0007, so that files it makes stay writable when the
container's uid changes. Exits: manage.py's status; 64 if a variable given to this command is wrong.
"""

import os
import sys

from dockerable.container import environment
from dockerable.container.places import APP

PYTHON = "/opt/app/bin/python3"


def main(arguments: list[str]) -> int:
    """Become manage.py. Returns only if a variable is wrong."""
    report = environment.read(required=False)
    if report.errors:
        for _, message in report.errors:
            print(f"manage: error: {message}", file=sys.stderr)
        return report.status
    os.umask(0o007)
    os.chdir(APP)
    values = {name: value for name, value in report.values.items() if value}
    os.execve(PYTHON, ["python3", "manage.py", *arguments], {**os.environ, **values})
