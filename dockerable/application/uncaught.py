"""Handles exceptions that leave the project's WSGI application: logs them, and answers 500 or cuts the answer.

The record goes to the log directly, in the image's format, which has the request id. The project's logging could lose
it: disable_existing_loggers disables loggers made before, a filter may drop errors, and many formats lack the id.
"""

import logging
import os
import select
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from dockerable.ops.logging import LogHandler, logging_configuration

StartResponse = Callable[..., Any]


class Records(LogHandler):
    """Writes records as LogHandler does.

    LogHandler.__init__ is not called, since it would replace Python's hooks for uncaught exceptions, also in projects
    that do not use LogHandler.
    """

    def __init__(self) -> None:
        logging.Handler.__init__(self)
        self.path = os.environ.get("DOCKERABLE_LOG", "")
        self.descriptor, self.owner = -1, 0
        self.setFormatter(logging_configuration()["formatters"]["line"]["()"]())


records = Records()


class Streaming:
    """An answer that is generated while it is sent, and may fail meanwhile."""

    def __init__(self, answer: Iterable[bytes], environ: dict[str, Any], start_response: StartResponse) -> None:
        self.answer, self.environ, self.start_response = answer, environ, start_response
        self.close: Callable[[], None] = getattr(answer, "close", lambda: None)

    def __iter__(self) -> Iterator[bytes]:
        try:
            yield from self.answer
        except GeneratorExit:
            raise
        except BaseException:
            # With a Content-Length nginx notices at once that the answer is too short.
            length_known = "Content-Length" in getattr(self.answer, "headers", ())
            yield from failed(self.environ, self.start_response, length_known)


def failed(environ: dict[str, Any], start_response: StartResponse, length_known: bool = False) -> list[bytes]:
    """Log the current exception, and answer 500; if the answer is half sent, make nginx cut it.

    Returns the content to send.
    """
    # REQUEST_URI is as the client sent it; PATH_INFO is decoded and may hold newlines.
    place = f"{environ['REQUEST_METHOD']} {environ['REQUEST_URI'].partition('?')[0]}"
    begun = False
    try:
        # Without exc_info, which WSGI requires here: with it uWSGI would print the traceback a second time and leave
        # the exception set.
        start_response("500 Internal Server Error", [("Content-Length", "0")])
    except OSError:
        # The headers have been sent already.
        begun = True
    # After that block sys.exc_info() is the application's exception again.
    what = f"{'The answer failed while it was sent' if begun else 'The application failed'}: {place}"
    records.handle(logging.LogRecord("dockerable.wsgi", logging.ERROR, __file__, 0, what, (), sys.exc_info()))
    if not begun:
        return [b""]
    if not length_known:
        unfinished.keep()
    return []


class Unfinished:
    """Connections to nginx of answers that failed half-way, kept open until nginx closes them.

    If an answer has no Content-Length, nginx takes a closed connection for its end, and the client would take half an
    answer for the whole. So the connection stays open until nginx's timeout, and nginx then cuts the client's
    connection. The worker serves other requests meanwhile.
    """

    # The most connections that are kept; each needs a file descriptor.
    LIMIT = 64

    def __init__(self) -> None:
        self.descriptors: list[int] = []
        self.lock = threading.Lock()

    def keep(self) -> None:
        """Keep the connection of this request; close those that nginx has closed, and the oldest ones beyond LIMIT."""
        import uwsgi

        with self.lock:
            asked = select.poll()
            for descriptor in self.descriptors:
                asked.register(descriptor, 0)
            gone = {descriptor for descriptor, _ in asked.poll(0)} | set(self.descriptors[: 1 - self.LIMIT])
            for descriptor in gone:
                os.close(descriptor)
            self.descriptors = [one for one in self.descriptors if one not in gone]
            connection = uwsgi.connection_fd()
            self.descriptors.append(os.dup(connection))
            # uWSGI shuts the connection down before it closes it, which would be the answer's end. So it gets another
            # file under that number.
            with open(os.devnull, "rb") as nothing:
                os.dup2(nothing.fileno(), connection, inheritable=False)


unfinished = Unfinished()
