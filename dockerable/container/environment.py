"""/run/environment: the start stores the checked values of all variables there, for programs that start later.

The file has the form of /proc/PID/environ: NAME=VALUE, each ended by a zero byte. It also has the values that nginx's
templates need.
"""

import os
from collections.abc import Mapping

from dockerable.container import places, variables
from dockerable.container.report import Report


def stored() -> dict[str, str]:
    """The stored values by name; empty if no start has stored any (as in `docker run IMAGE manage`)."""
    try:
        text = places.ENVIRONMENT.read_text("utf-8", "surrogateescape")
    except OSError:
        return {}
    return dict(entry.split("=", 1) for entry in text.split("\0") if entry)


def store(values: Mapping[str, str]) -> None:
    """Store the values atomically. Raises OSError."""
    new = places.ENVIRONMENT.with_suffix(".new")
    new.write_text("".join(f"{name}={value}\0" for name, value in values.items()), "utf-8", "surrogateescape")
    new.rename(places.ENVIRONMENT)


def read(environ: Mapping[str, str] = os.environ, *, required: bool = True) -> Report:
    """All variables of the container, for a program that runs after the start.

    A value that the program was given itself (`docker exec -e`) is checked and wins; then comes the stored value, then
    the default. The report has errors for wrong values of the first kind and, unless `required` is off, for missing
    variables.
    """
    report = Report()
    own = {name: value for name, value in environ.items() if value}
    variables.check(own, report, known=stored(), required=required)
    return report
