"""Settings of this environment; its secrets are in secrets.json, or wherever else it has them."""

from pathlib import Path

from project.settings.base import *  # noqa: F403
from project.settings.schema import Settings

globals().update(Settings.load(Path(__file__).parent).as_django())

# What only this environment has goes below, as in any settings file of Django.
