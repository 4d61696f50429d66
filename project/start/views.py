"""The start page."""

import logging
import platform
import sys

import django
from django.conf import settings
from django.db import Error, connection
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

logger = logging.getLogger(__name__)


@never_cache
@require_safe
def start(request: HttpRequest) -> HttpResponse:
    """Show that the stack works; with status 503 if the database does not answer."""
    database = database_answers()
    context = {
        "server": "nginx and uWSGI" if "uwsgi" in sys.modules else "Django's own server",
        "database": database,
        "details": settings.DEBUG or settings.START_PAGE_DETAILS,
        "environment": settings.SETTINGS_MODULE,
        "engine": connection.display_name,
        "django": django.get_version(),
        "python": platform.python_version(),
    }
    return render(request, "start/start.html", context, status=200 if database else 503)


def database_answers() -> bool:
    """Return whether the default database answers; log the reason if it does not."""
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    except Error as reason:
        logger.error("The database does not answer: %s", reason)
        return False
    return True
