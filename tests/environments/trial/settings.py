"""The settings of `local` with views that only tests need."""

from project.settings.local.settings import *  # noqa: F403

ROOT_URLCONF = "project.settings.trial.urls"
