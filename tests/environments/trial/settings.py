"""`local` with views that only a test needs."""

from project.settings.local.settings import *  # noqa: F403

ROOT_URLCONF = "project.settings.trial.urls"
