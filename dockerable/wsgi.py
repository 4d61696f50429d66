"""The project's WSGI application with what the image adds: liveness, the request's id, failures as records.

nginx asks for liveness on a socket that no client reaches and marks the request with a uwsgi parameter that
no client can send. So the answer says that nginx, its socket, a worker and Python work, whatever the
project's hosts, redirects, middleware or database say.
"""

import contextlib
import logging
import os
import select
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from django.conf import settings
from django.http import HttpResponse
from django.urls import get_resolver
from django.utils.module_loading import import_string

from dockerable import harakiri
from dockerable.ops.request_id import request_id

logger = logging.getLogger(__name__)
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

StartResponse = Callable[..., Any]


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


class Streaming:
    """An answer that can still fail while it is sent."""

    def __init__(self, answer: Iterable[bytes], environ: dict[str, Any], start_response: StartResponse) -> None:
        self.answer, self.environ, self.start_response = answer, environ, start_response
        self.close: Callable[[], None] = getattr(answer, "close", lambda: None)

    def __iter__(self) -> Iterator[bytes]:
        try:
            yield from self.answer
        except GeneratorExit:
            raise
        except BaseException:
            # Where nginx knows the length it cuts by itself, and at once.
            yield from failed(
                self.environ, self.start_response, "Content-Length" in getattr(self.answer, "headers", ())
            )


def failed(environ: dict[str, Any], start_response: StartResponse, length_known: bool = False) -> list[bytes]:
    """Log the exception that is being handled; answer 500 where nothing was sent, or let nginx cut what was."""
    # As it was sent: decoded it may have line ends, and a project's logging need not escape them.
    place = f"{environ['REQUEST_METHOD']} {environ['REQUEST_URI'].partition('?')[0]}"
    begun = False
    try:
        # Without exc_info, with which uWSGI prints the traceback and leaves the exception set.
        start_response("500 Internal Server Error", [("Content-Length", "0")])
    except OSError:
        begun = True
    # Here it is the application's exception again.
    logger.exception("The answer failed while it was sent: %s" if begun else "The application failed: %s", place)
    if not begun:
        return [b""]
    if not length_known:
        unfinished.keep()
    return []


class Unfinished:
    """Connections to nginx of answers that failed half-way, kept open until nginx gives them up.

    nginx takes the end of the connection for the end of an answer without a length, which the client would
    then believe to be whole. Kept open, it becomes a timeout, after which nginx cuts the client's connection.
    The worker serves on meanwhile.
    """

    LIMIT = 64

    def __init__(self) -> None:
        self.descriptors: list[int] = []
        self.lock = threading.Lock()

    def keep(self) -> None:
        """Keep the connection of this thread's request; close those that nginx has given up, and beyond LIMIT."""
        import uwsgi

        with self.lock:
            asked = select.poll()
            for descriptor in self.descriptors:
                asked.register(descriptor, 0)
            gone = {descriptor for descriptor, _ in asked.poll(0)} | set(self.descriptors[: 1 - self.LIMIT])
            for descriptor in gone:
                os.close(descriptor)
            self.descriptors = [one for one in self.descriptors if one not in gone]
            self.descriptors.append(os.dup(uwsgi.connection_fd()))


unfinished = Unfinished()
