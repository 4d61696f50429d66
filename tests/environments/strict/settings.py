"""The settings of `trial` for a project that redirects to HTTPS itself."""

from project.settings.local.settings import *  # noqa: F403

ROOT_URLCONF = "project.settings.trial.urls"
SECURE_SSL_REDIRECT = True
SECURE_HSTS_SECONDS = 60
