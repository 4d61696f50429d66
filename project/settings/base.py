"""Settings that all environments share, safe to publish: nothing here is secret or permissive."""

import os
from pathlib import Path

from dockerable.ops.logging import logging_configuration
from dockerable.settings import make_folders

BASE_DIR = Path(__file__).resolve().parents[2]
# Both variables are set in the image; without it everything stays in var/, which git ignores.
DATA_DIR = Path(os.environ.get("DATA_DIR") or BASE_DIR / "var" / "data")
STATIC_ROOT = Path(os.environ.get("STATIC_ROOT") or BASE_DIR / "var" / "static")
MEDIA_ROOT = DATA_DIR / "media"
# On the same file system as the uploads, so that keeping one is a rename.
FILE_UPLOAD_TEMP_DIR = DATA_DIR / "tmp"
make_folders(DATA_DIR, MEDIA_ROOT, FILE_UPLOAD_TEMP_DIR)

DEBUG = False
ALLOWED_HOSTS: list[str] = []
# Whether the start page shows versions, which a public site keeps to itself.
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

# The security headers are Django's for what Django answers, and nginx's for files it serves.
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
# HSTS and the redirect to HTTPS are nginx's.
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
    # WAL lets readers and a writer work at once. With it NORMAL cannot corrupt, and saves a sync
    # for each transaction; a power cut may cost the last ones.
    "init_command": "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL;",
    # Seconds to wait for another writer.
    "timeout": 20,
    # The lock is taken at the start of a transaction, where waiting is possible; a transaction
    # that reads first and then writes fails at once when another has written meanwhile.
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
# Django sets TZ for the whole process, uWSGI's log with it.
TIME_ZONE = "UTC"
USE_TZ = True

STATIC_URL = "/static/"
MEDIA_URL = "/media/"
# Whatever the umask: for the group too, since the container's uid may change while its group stays.
FILE_UPLOAD_PERMISSIONS = 0o660
FILE_UPLOAD_DIRECTORY_PERMISSIONS = 0o2770
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {
        "BACKEND": "django.contrib.staticfiles.storage.ManifestStaticFilesStorage",
        # Not the permissions of uploads: collected files are public, and nobody changes them.
        "OPTIONS": {"file_permissions_mode": 0o644, "directory_permissions_mode": 0o755},
    },
}

# Seconds; without it a mail server that does not answer holds a worker until harakiri.
EMAIL_TIMEOUT = 10

# Django's own default is silent about errors when DEBUG is off. LOG_LEVEL and LOG_FORMAT change it.
LOGGING = logging_configuration()
