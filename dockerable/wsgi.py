"""The project's WSGI application with one answer of our own in front of it: liveness.

nginx asks it on a socket that no client reaches and marks the request with a uwsgi parameter that no
client can send. So the answer says that nginx, its socket, a worker and Python work, whatever the
project's hosts, redirects, middleware or database say.
"""

from collections.abc import Callable, Iterable
from typing import Any

from django.conf import settings
from django.urls import get_resolver
from django.utils.module_loading import import_string

project = import_string(settings.WSGI_APPLICATION)
# The first request would load these; so a worker is ready when it says so, and a broken one never starts.
get_resolver().url_patterns  # noqa: B018


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """WSGI: `DOCKERABLE_LIVE` is answered here, all else by the project's WSGI_APPLICATION."""
    if "DOCKERABLE_LIVE" in environ:
        start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "5")])
        return [b"live\n"]
    return project(environ, start_response)
