"""manage: runs the project's manage.py, in `docker exec CONTAINER manage ...` and `docker run IMAGE manage ...`.

manage.py gets the values that the site runs with, and umask 0007, so that files it makes stay writable when the
container's uid changes. A command that works on the code, which is in the image, is warned of.
Exits: manage.py's status; 64 if a variable given to this command is wrong, or as uid 0.
"""

import os
import sys

from dockerable.container import environment
from dockerable.container.places import APP
from dockerable.container.refuse_root import refuse_root

PYTHON = "/opt/app/bin/python3"
# Django's commands that write into the code; then those options with which they write nothing.
WRITE_CODE = {
    "compilemessages",
    "makemessages",
    "makemigrations",
    "optimizemigration",
    "squashmigrations",
    "startapp",
    "startproject",
}
WRITE_NOTHING = {"--check", "--dry-run", "--help", "-h"}


def warn_of_code(arguments: list[str]) -> None:
    """Warn if the command is one that writes code, and this user cannot write the folder of the code.

    Without this, makemigrations finds no changes, since it sees the models of the image and not those being edited.
    """
    command = arguments[0] if arguments else ""
    if command in WRITE_CODE and not WRITE_NOTHING & set(arguments) and not os.access(APP, os.W_OK):
        print(
            f"manage: warning: {command} works on the code in the image: it does not see what you edit and cannot "
            f"write there (remedy: python3 manage.py {command} where you edit, then dockerable/ctl up ENV)",
            file=sys.stderr,
            flush=True,
        )


def main(arguments: list[str]) -> int:
    """Become manage.py. Returns only if a variable is wrong, or as uid 0."""
    if status := refuse_root("manage"):
        return status
    report = environment.read(required=False)
    if report.errors:
        for _, message in report.errors:
            print(f"manage: error: {message}", file=sys.stderr)
        return report.status
    warn_of_code(arguments)
    os.umask(0o007)
    os.chdir(APP)
    values = {name: value for name, value in report.values.items() if value}
    os.execve(PYTHON, ["python3", "manage.py", *arguments], {**os.environ, **values})
