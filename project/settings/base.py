"""Settings that all environments share. Safe to publish: nothing here is secret or lowers security."""

import os
from pathlib import Path

from dockerable.ops.logging import logging_configuration
from dockerable.settings import make_folders

BASE_DIR = Path(__file__).resolve().parents[2]
# The image sets both variables; outside of it files go to var/, which git ignores.
DATA_DIR = Path(os.environ.get("DATA_DIR") or BASE_DIR / "var" / "data")
STATIC_ROOT = Path(os.environ.get("STATIC_ROOT") or BASE_DIR / "var" / "static")
MEDIA_ROOT = DATA_DIR / "media"
# On the same file system as MEDIA_ROOT, so that Django can rename a finished upload instead of copying it.
FILE_UPLOAD_TEMP_DIR = DATA_DIR / "tmp"
make_folders(DATA_DIR, MEDIA_ROOT, FILE_UPLOAD_TEMP_DIR)

DEBUG = False
ALLOWED_HOSTS: list[str] = []
# Whether the start page shows versions and settings module; a public site should not.
START_PAGE_DETAILS = False

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "project.accounts",
    "project.start",
]

# This middleware sets the security headers of Django's answers; nginx sets those of files that it serves.
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
# Checks for HSTS and the redirect to HTTPS, which nginx does.
SILENCED_SYSTEM_CHECKS = ["security.W004", "security.W008"]

ROOT_URLCONF = "project.urls"
WSGI_APPLICATION = "project.wsgi.application"
TEST_RUNNER = "project.testing.ProjectTestRunner"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]

SQLITE_OPTIONS = {
    # WAL lets readers and a writer work at once. With WAL, NORMAL is safe from corruption and saves
    # a sync for each transaction; a power cut may lose the last transactions.
    "init_command": "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL;",
    # Seconds to wait for another writer.
    "timeout": 20,
    # Take the write lock at the start of a transaction, where SQLite waits for it. Otherwise a
    # transaction that reads first fails at its first write if another has written meanwhile.
    "transaction_mode": "IMMEDIATE",
}
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": DATA_DIR / "db.sqlite3",
        "CONN_MAX_AGE": None,
        "OPTIONS": SQLITE_OPTIONS,
    },
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

AUTH_USER_MODEL = "accounts.User"
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in (
        "UserAttributeSimilarityValidator",
        "MinimumLengthValidator",
        "CommonPasswordValidator",
        "NumericPasswordValidator",
    )
]

LANGUAGE_CODE = "en"
# Django sets TZ for the whole process, so this is also the time zone of uWSGI's log.
TIME_ZONE = "UTC"
USE_TZ = True

STATIC_URL = "/static/"
MEDIA_URL = "/media/"
# The group may write, whatever the umask: the container's uid may change, its gid stays 0.
FILE_UPLOAD_PERMISSIONS = 0o660
FILE_UPLOAD_DIRECTORY_PERMISSIONS = 0o2770
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {
        "BACKEND": "django.contrib.staticfiles.storage.ManifestStaticFilesStorage",
        # Instead of the permissions of uploads: collected files are public and never change.
        "OPTIONS": {"file_permissions_mode": 0o644, "directory_permissions_mode": 0o755},
    },
}

# Seconds. Otherwise a mail server that does not answer blocks a worker until harakiri kills the worker.
EMAIL_TIMEOUT = 10

# Django's default logs no errors if DEBUG is off. Reads LOG_LEVEL and LOG_FORMAT.
LOGGING = logging_configuration()
