"""Exceptions that leave the project's WSGI application: each is logged, and its client gets a 500 or a cut answer.

The record goes to the log directly, in the image's own format, which has the request's id. The project's logging might
lose it: a LOGGING with disable_existing_loggers silences loggers made before it, a filter may hold errors back, and
many formats leave the id out.
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

    LogHandler also replaces Python's hooks for uncaught exceptions. Here that is not wanted, as the project may not
    have chosen LogHandler, so its own __init__ is left out.
    """

    def __init__(self) -> None:
        logging.Handler.__init__(self)
        self.path = os.environ.get("DOCKERABLE_LOG", "")
        self.descriptor, self.owner = -1, 0
        self.setFormatter(logging_configuration()["formatters"]["line"]["()"]())


records = Records()


class Streaming:
    """An answer whose content is made while it is sent, and may fail then."""

    def __init__(self, answer: Iterable[bytes], environ: dict[str, Any], start_response: StartResponse) -> None:
        self.answer, self.environ, self.start_response = answer, environ, start_response
        self.close: Callable[[], None] = getattr(answer, "close", lambda: None)

    def __iter__(self) -> Iterator[bytes]:
        try:
            yield from self.answer
        except GeneratorExit:
            raise
        except BaseException:
            # Where nginx knows the length, it sees at once that the answer is too short.
            length_known = "Content-Length" in getattr(self.answer, "headers", ())
            yield from failed(self.environ, self.start_response, length_known)


def failed(environ: dict[str, Any], start_response: StartResponse, length_known: bool = False) -> list[bytes]:
    """Log the exception that is being handled, and answer 500, or have nginx cut an answer that is half sent.

    Returns the content that is still to be sent.
    """
    # REQUEST_URI is as the client sent it; PATH_INFO is decoded and may hold newlines.
    place = f"{environ['REQUEST_METHOD']} {environ['REQUEST_URI'].partition('?')[0]}"
    begun = False
    try:
        # WSGI wants exc_info here; with it uWSGI would print the traceback, too, and leave the exception set.
        start_response("500 Internal Server Error", [("Content-Length", "0")])
    except OSError:
        # The head has been sent already.
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

    nginx takes a closed connection for the end of an answer without a length, and the client would believe half an
    answer to be whole. So the connection stays open until nginx's timeout, after which nginx cuts the client's
    connection. The worker serves other requests meanwhile.
    """

    # The most connections that are kept, each a file descriptor.
    LIMIT = 64

    def __init__(self) -> None:
        self.descriptors: list[int] = []
        self.lock = threading.Lock()

    def keep(self) -> None:
        """Keep the connection of this thread's request; close those that nginx closed, and the oldest of too many."""
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
