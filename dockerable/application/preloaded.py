"""Modules imported before the project is: once, for the child that loads the project and for every worker.

Any Django project needs them, and they need no settings. The process that forks the child becomes uWSGI's master; so
its workers start sooner and share these modules' memory.
"""
# ruff: noqa: F401

import contextlib

import django.core.handlers.wsgi
import django.core.management.commands.migrate
import django.db.backends.sqlite3.base
import django.db.migrations.autodetector
import django.template.backends.django
import django.urls.resolvers
import django.views.defaults

# dockerable/settings.py uses it, and with it many a project.
with contextlib.suppress(ImportError):
    import pydantic_settings
