"""Settings of this environment. Its secrets come from secrets.json or the other sources of dockerable/settings.py."""

from pathlib import Path

from project.settings.base import *  # noqa: F403
from project.settings.schema import Settings

globals().update(Settings.load(Path(__file__).parent).as_django())

# Add this environment's own Django settings below.
