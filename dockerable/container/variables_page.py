"""Makes VARIABLES.md from the table of variables.

Usage: python3 -m dockerable.container.variables_page >dockerable/VARIABLES.md
"""

import sys

from dockerable.container import kinds
from dockerable.container.variables import TABLE, Derived, Variable

HEAD = """\
# Variables

Made from `container/variables.py` by `python3 -m dockerable.container.variables_page`; not edited by hand.

The container refuses a value that it does not understand, and warns of a name that is nearly one of its own. An empty
value counts as not set. Any other option of uWSGI's can be given as `UWSGI_` and its name, such as
`UWSGI_MAX_REQUESTS`; a name that is no option, and values that uWSGI refuses, end the start. What an orchestrator sets
for a service that is called `uwsgi` (`UWSGI_PORT=tcp://...`, `UWSGI_SERVICE_HOST`) is ignored with a warning.

A program that is started later (`docker exec CONTAINER manage`, `reload`, `certificate`, `healthcheck`) takes the
values that the start found; `docker exec -e LOG_LEVEL=debug CONTAINER manage ...` gives it one of its own.

"""
LEGEND = (
    kinds.SWITCH_KIND, kinds.SERVER_NAMES, kinds.NETWORKS, kinds.SIZE, kinds.PATH, kinds.FILE, kinds.WORD
)  # fmt: skip


def page() -> str:
    """The whole page."""
    lines = [HEAD + "| kind | what may stand there |", "| --- | --- |"]
    lines += [f"| {kind.name} | {kind.values} |" for kind in LEGEND]
    for heading, section in TABLE.items():
        lines += ["", f"## {heading}", "", "| variable | default | kind | what it is |", "| --- | --- | --- | --- |"]
        lines += map(row, section)
    return "\n".join(lines) + "\n"


def row(variable: Variable) -> str:
    """A variable's row."""
    example = f" Example: `{variable.example}`." if variable.example else ""
    cells = (f"`{variable.name}`", default(variable), kind(variable), variable.description + example)
    return f"| {' | '.join(cells)} |"


def default(variable: Variable) -> str:
    """A variable's default, as a cell."""
    if isinstance(variable.default, Derived):
        return variable.default.words
    return "required" if variable.default is None else f"`{variable.default}`" if variable.default else "none"


def kind(variable: Variable) -> str:
    """A variable's kind, as a cell: a number's range and unit, a choice's words, otherwise the kind's name."""
    name, values = variable.kind.name, variable.kind.values
    if name == kinds.WHOLE_NUMBER:
        return values if variable.kind.unit else f"whole number, {values}"
    return values if name == kinds.CHOICE else name


if __name__ == "__main__":
    sys.stdout.write(page())
