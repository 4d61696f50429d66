"""Settings for your own machine, for the image and for `manage.py runserver`. Every key has a default."""

import sys

from pydantic import Field, SecretStr

from dockerable.settings import Words, kept_secret
from project.settings.base import *  # noqa: F403
from project.settings.base import DATA_DIR
from project.settings.schema import Settings


class LocalSettings(Settings):
    """Defaults that only your own machine may have."""

    secret_key: SecretStr = Field(default_factory=lambda: kept_secret(DATA_DIR / "secret_key"))
    # runserver serves static files and uploads only with DEBUG; in the container nginx serves them.
    debug: bool = sys.argv[1:2] == ["runserver"]
    nginx_server_name: Words = ["localhost", "127.0.0.1", "[::1]"]


globals().update(LocalSettings.load().as_django())
START_PAGE_DETAILS = True
