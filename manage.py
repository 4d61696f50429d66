#!/usr/bin/env python3
"""Django's command line for this project.

Exits: as Django's commands; 65, 66, 73 or 78 if settings are wrong (dockerable/settings.py); 69 if the packages of
requirements.txt are not installed.
"""

import os
import sys
from typing import NoReturn

PACKAGES = ("django", "pydantic", "pydantic_settings")


def main() -> None:
    """Run the command in the arguments; the settings are `local` unless DJANGO_SETTINGS_MODULE names others."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "project.settings.local.settings")
    settings_module = os.environ["DJANGO_SETTINGS_MODULE"]
    try:
        from django.core.management import execute_from_command_line

        from dockerable.settings import SettingsError
    except ModuleNotFoundError as error:
        if error.name not in PACKAGES:
            raise
        give_up(
            69,
            f"{error.name} is not installed for {sys.executable} (remedy: python3 -m venv .venv && "
            ". .venv/bin/activate && python3 -m pip install -r requirements.txt)",
        )
    try:
        execute_from_command_line(sys.argv)
    except SettingsError as error:
        give_up(error.exit_status, *error.problems)
    except ModuleNotFoundError as error:
        if not f"{settings_module}.".startswith(f"{error.name}."):
            raise
        give_up(78, f"DJANGO_SETTINGS_MODULE names {settings_module}: {error}")


def give_up(status: int, *problems: str) -> NoReturn:
    """Print one line for each problem and exit."""
    for problem in problems:
        print(f"manage.py: error: {problem}", file=sys.stderr)
    sys.exit(status)


if __name__ == "__main__":
    main()
