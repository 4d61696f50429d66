"""The checked values of all variables: the start keeps them in /run/environment, programs that start later read them.

/run/environment has the form of /proc/PID/environ: NAME=VALUE, each ended by a zero byte. Beside the variables it
holds what nginx's templates need.
"""

import os
from collections.abc import Mapping

from dockerable.container import places, variables
from dockerable.container.report import Report


def stored() -> dict[str, str]:
    """What the start kept, by name; empty before it, and where no start was (`docker run IMAGE manage`)."""
    try:
        text = places.ENVIRONMENT.read_text("utf-8", "surrogateescape")
    except OSError:
        return {}
    return dict(entry.split("=", 1) for entry in text.split("\0") if entry)


def store(values: Mapping[str, str]) -> None:
    """Keep the values, whole or not at all. Raises OSError."""
    new = places.ENVIRONMENT.with_suffix(".new")
    new.write_text("".join(f"{name}={value}\0" for name, value in values.items()), "utf-8", "surrogateescape")
    new.rename(places.ENVIRONMENT)


def read(environ: Mapping[str, str] = os.environ, *, required: bool = True) -> Report:
    """Every variable of the container's as a program must take it that starts after the start.

    A value of the program's own (`docker exec -e`) is checked and wins; else stands what the start kept, else the
    default. The report's errors are those of own values and, unless `required` is off, of a variable that must be set.
    """
    report = Report()
    own = {name: value for name, value in environ.items() if value}
    variables.check(own, report, known=stored(), required=required)
    return report
