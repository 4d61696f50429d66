"""The keys that environments set, with their types. A key in upper case is the name of its variable."""

from typing import Any

from pydantic import SecretStr, field_validator

from dockerable.ops import database_url
from dockerable.settings import EnvironmentSettings, Words
from project.settings import base

PLACEHOLDER = "change-me"


class Settings(EnvironmentSettings):
    """The keys. dockerable/settings.py lists the sources that their values come from."""

    secret_key: SecretStr
    debug: bool = False
    # Django's ALLOWED_HOSTS; by default the names in NGINX_SERVER_NAME.
    allowed_hosts: Words = []
    nginx_server_name: Words = []
    # The variable that also turns HTTPS on in nginx; here it restricts cookies to HTTPS.
    use_ssl: bool = False
    # By default SQLite in the data folder.
    database_url: SecretStr | None = None
    # If empty, mail is printed to the log. Port 587 uses STARTTLS, 465 TLS, others no encryption.
    email_host: str = ""
    email_port: int = 587
    email_host_user: str = ""
    email_host_password: SecretStr = SecretStr("")
    default_from_email: str = "webmaster@localhost"

    @field_validator("secret_key")
    @classmethod
    def _refuse_the_placeholder(cls, value: SecretStr) -> SecretStr:
        if value.get_secret_value() == PLACEHOLDER:
            raise ValueError("is the placeholder: put there what this prints: head -c 48 /dev/urandom | base64")
        return value

    @field_validator("database_url")
    @classmethod
    def _refuse_a_bad_address(cls, value: SecretStr | None) -> SecretStr | None:
        if value and value.get_secret_value():
            if wrong := database_url.problem(value.get_secret_value()):
                raise ValueError(wrong)
            if not _database(value):
                raise ValueError(f"is no database address {database_url.EXAMPLE}")
        return value

    def as_django(self) -> dict[str, Any]:
        """Return Django's settings."""
        return {
            "SECRET_KEY": self.secret_key.get_secret_value(),
            "DEBUG": self.debug,
            "ALLOWED_HOSTS": self.allowed_hosts or list(map(_pattern, self.nginx_server_name)),
            "SESSION_COOKIE_SECURE": self.use_ssl,
            "CSRF_COOKIE_SECURE": self.use_ssl,
            "DATABASES": self._databases(),
            "EMAIL_BACKEND": "django.core.mail.backends."
            + ("smtp" if self.email_host else "console")
            + ".EmailBackend",
            "EMAIL_HOST": self.email_host,
            "EMAIL_PORT": self.email_port,
            "EMAIL_USE_TLS": self.email_port == 587,
            "EMAIL_USE_SSL": self.email_port == 465,
            "EMAIL_HOST_USER": self.email_host_user,
            "EMAIL_HOST_PASSWORD": self.email_host_password.get_secret_value(),
            "DEFAULT_FROM_EMAIL": self.default_from_email,
        }

    def _databases(self) -> dict[str, Any]:
        database = self.database_url and _database(self.database_url)
        return {"default": database} if database else base.DATABASES


def _pattern(server_name: str) -> str:
    """Return a server name in the form of ALLOWED_HOSTS: a wildcard `*.` becomes a leading dot."""
    return server_name.removeprefix("*") if server_name.startswith("*.") else server_name


def _database(url: SecretStr) -> dict[str, Any] | None:
    """Return the Django settings of a database URL; None if it is not valid."""
    import dj_database_url  # Imported here, so that a start with SQLite does not load it.

    try:
        database: dict[str, Any] = dict(
            # The health check notices a connection that the server has closed before it is used.
            dj_database_url.parse(url.get_secret_value(), conn_max_age=None, conn_health_checks=True)
        )
    except ValueError:
        return None
    if not database["NAME"]:
        return None
    options: dict[str, Any] = {}
    if "sqlite3" in database["ENGINE"]:
        options = base.SQLITE_OPTIONS
    elif "postgresql" in database["ENGINE"]:
        # Seconds that a server which does not answer may block a worker.
        options = {"connect_timeout": 5}
    return database | {"OPTIONS": options | database.get("OPTIONS", {})}
