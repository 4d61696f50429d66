"""The result of the checks at start: values, errors with their exit statuses, warnings, variables to unset."""

import sys

from dockerable.container.exit_status import SEVERITY


class Report:
    """Checked values by name, errors with the exit status of their kind, and warnings."""

    def __init__(self, values: dict[str, str] | None = None, warnings: list[str] | None = None) -> None:
        self.values: dict[str, str] = values or {}
        self.errors: list[tuple[int, str]] = []
        self.warnings: list[str] = warnings or []
        # Names of variables that no program of the container shall see.
        self.unset: list[str] = []

    def error(self, status: int, message: str) -> None:
        """Add an error with the exit status of its kind."""
        self.errors.append((status, message))

    @property
    def status(self) -> int:
        """The exit status: 0, or the first kind of error in the order of SEVERITY."""
        found = {status for status, _ in self.errors}
        return next((status for status in SEVERITY if status in found), max(found, default=0))

    def print(self) -> None:
        """Print warnings and errors on stderr, a line each."""
        for message in self.warnings:
            print(f"warning: {message}", file=sys.stderr)
        for _, message in self.errors:
            print(f"error: {message}", file=sys.stderr)
