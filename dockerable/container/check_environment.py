"""Checks variables, mounts and files for cmd.sh, before anything is rendered or started.

Usage: python3 -m dockerable.container.check_environment [--reload]
  --reload   use the values that the start stored, since only mounts can have changed since then

Lists all errors on stderr. The exit status is the first kind found among 64 (variables), 66 (a file or mount is
missing), 65 (bad data in a file), 78 (configuration) and 73 (a place cannot be written). Without errors it stores the
values in /run/environment and prints them as shell commands that export them, and unset what uWSGI must not see.
"""

import os
import shlex
import sys
from collections.abc import Mapping

from dockerable.container import checks, environment, places, unknown_variables, uwsgi_options, variables
from dockerable.container.exit_status import CANNOT_CREATE
from dockerable.container.report import Report
from dockerable.container.template_values import template_values


def check(environ: Mapping[str, str], known: Mapping[str, str]) -> Report:
    """Run all checks. `known` has values that were checked before, for variables that `environ` lacks."""
    report = Report()
    variables.check(environ, report, known=known)
    checks.check_watchdog(report)
    unknown_variables.warn_of_unknown(environ, report)
    uwsgi_options.check(environ, report)
    checks.check_descriptors(report)
    before = len(report.errors)
    checks.check_settings_module(report)
    importable = len(report.errors) == before
    checks.check_data(environ, report)
    checks.check_tls(report)
    if report.errors and importable:
        checks.check_settings(environ, report)
    if not report.errors:
        checks.fit_machine(environ, report)
    return report


def shell_commands(values: Mapping[str, str], unset: list[str]) -> str:
    """Shell commands that export the values and unset variables."""
    exports = (f"export {name}={shlex.quote(value)}\n" for name, value in values.items())
    # A shell does not pass on variables whose names are no names in its language.
    return "".join([*exports, *(f"unset {name}\n" for name in unset if name.isidentifier() and name.isascii())])


def main(arguments: list[str]) -> int:
    """Check, store and print. Returns the exit status."""
    reloading = arguments == ["--reload"]
    report = check(os.environ, environment.stored() if reloading else {})
    if not (reloading or report.errors):
        uwsgi_options.try_values(os.environ, report)
    report.print()
    if report.errors:
        return report.status
    values = report.values | template_values(report.values)
    values["DATA_DIR"] = os.environ.get("DATA_DIR", "/data")
    values["TEMPLATE_VARIABLES"] = " ".join(f"${{{name}}}" for name in values)
    if not reloading:
        try:
            environment.store(values)
        except OSError as reason:
            what = f"{places.ENVIRONMENT} cannot be written: {reason.strerror}"
            print(f"error: {what} {places.ROOM_IN_RUN}", file=sys.stderr)
            return CANNOT_CREATE
    sys.stdout.write(shell_commands(values, report.unset))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
