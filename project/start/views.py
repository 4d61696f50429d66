"""The start page."""

import platform
import sys

import django
from django.conf import settings
from django.db import Error, connection
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe


@never_cache
@require_safe
def start(request: HttpRequest) -> HttpResponse:
    """Show that the stack is up; 503 when the database is not."""
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
    """Tell whether the default database can be reached."""
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    except Error:
        return False
    return True
