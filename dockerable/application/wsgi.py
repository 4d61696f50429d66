"""The project's WSGI application with what the image adds: liveness, the request's id, an end for what fails.

nginx asks for liveness on a socket that no client reaches and marks the request with a uwsgi parameter that
no client can send. So the answer says that nginx, its socket, a worker and Python work, whatever the
project's hosts, redirects, middleware or database say.
"""

import contextlib
import os
import sys
from collections.abc import Iterable
from typing import Any

from django.conf import settings
from django.http import HttpResponse
from django.urls import get_resolver
from django.utils.module_loading import import_string

from dockerable.application import harakiri
from dockerable.application.uncaught import StartResponse, Streaming, failed
from dockerable.ops.request_id import request_id

project = import_string(settings.WSGI_APPLICATION)
# The first request would load these; so a worker is ready when it says so, and a broken one never starts.
get_resolver().url_patterns  # noqa: B018

# Not where the application is only tried before uWSGI starts.
with contextlib.suppress(ImportError):
    import uwsgi

    try:
        harakiri.start(uwsgi, int(os.environ["UWSGI_THREADS"]), float(os.environ["UWSGI_HARAKIRI"]))
    except OSError as reason:
        # A full /run: the site is served without.
        print(f"warning: what workers do is not noted: {reason}", file=sys.stderr, flush=True)


def application(environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
    """WSGI: `DOCKERABLE_LIVE` is answered here, all else by the project's WSGI_APPLICATION."""
    if "DOCKERABLE_LIVE" in environ:
        start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "5")])
        return [b"live\n"]
    harakiri.begin(environ)
    request_id.set(environ.get("HTTP_X_REQUEST_ID", ""))
    try:
        answer = project(environ, start_response)
    # SystemExit too, which would end the worker.
    except BaseException:
        return failed(environ, start_response)
    # What cannot fail any more, and files, which uWSGI must see itself to send them by sendfile.
    if isinstance(answer, HttpResponse | list | tuple) or hasattr(answer, "read"):
        return answer
    return Streaming(answer, environ, start_response)
