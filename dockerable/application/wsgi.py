"""Wraps the project's WSGI application: answers the liveness check, sets path and request id, handles exceptions.

nginx marks a liveness check with a uwsgi parameter that no client can send. The answer shows that nginx, uWSGI's
socket, a worker and Python work, independent of the project's hosts, redirects, middleware and database.
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

from dockerable.application import harakiri, unknown_proxy, waiting
from dockerable.application.plain_file import is_plain
from dockerable.application.request_path import as_sent
from dockerable.application.uncaught import StartResponse, Streaming, failed
from dockerable.ops.request_id import request_id

project = import_string(settings.WSGI_APPLICATION)
# Otherwise the first request would load the URLs: so a broken URLconf is found at the start.
get_resolver().url_patterns  # noqa: B018
# UWSGI_HARAKIRI in seconds, within uWSGI.
deadline = 0

# Outside of uWSGI, when the start only checks the application, this module does not exist.
with contextlib.suppress(ImportError):
    import uwsgi

    deadline = int(os.environ["UWSGI_HARAKIRI"])
    try:
        harakiri.start(uwsgi, int(os.environ["UWSGI_THREADS"]), deadline)
    except OSError as reason:
        # /run is full. The site is served without these records.
        print(f"warning: what workers do is not noted: {reason}", file=sys.stderr, flush=True)


def application(environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
    """The WSGI callable: answers `DOCKERABLE_LIVE` itself and passes all else to the project's WSGI_APPLICATION."""
    if "DOCKERABLE_LIVE" in environ:
        start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "5")])
        return [b"live\n"]
    if waiting.refused(environ, deadline):
        return waiting.refuse(start_response)
    harakiri.begin(environ)
    environ["PATH_INFO"] = as_sent(environ["PATH_INFO"], environ.get("REQUEST_URI", ""))
    if "DOCKERABLE_UNKNOWN_PROXY" in environ:
        unknown_proxy.warn_of(environ.pop("DOCKERABLE_UNKNOWN_PROXY"))
    # The project gets none, since uWSGI's would send every file that has a descriptor by sendfile: plain_file.py.
    send_by_kernel = environ.pop("wsgi.file_wrapper", None)
    request_id.set(environ.get("HTTP_X_REQUEST_ID", ""))
    try:
        answer = project(environ, start_response)
    # BaseException, since a SystemExit would end the worker.
    except BaseException:
        return failed(environ, start_response)
    # Not wrapped: answers that are complete already, and files, which uWSGI sends by sendfile only if unwrapped.
    if isinstance(answer, HttpResponse | list | tuple):
        return answer
    # The file of Django's FileResponse.
    file = getattr(answer, "file_to_stream", None)
    if send_by_kernel and file is not None and is_plain(file):
        # uWSGI closes the file, and Django wants the answer to be closed.
        file.close = answer.close
        return send_by_kernel(file, answer.block_size)
    return Streaming(answer, environ, start_response)
