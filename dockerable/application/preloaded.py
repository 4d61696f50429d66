"""Imports modules that any Django project needs and that need no settings, before any project code.

The process that imports them forks the child that checks the project, and then becomes uWSGI's master: so all workers
start sooner and share these modules' memory.
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

# For projects that use dockerable/settings.py.
with contextlib.suppress(ImportError):
    import pydantic_settings
