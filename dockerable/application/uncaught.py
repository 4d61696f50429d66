"""What becomes of an exception that leaves the WSGI application: a record, and a 500 or an answer that is cut.

The record takes the log's own way, in the image's own form, which has the request's id. By the project's logging it
would be lost where that silences the loggers that were there before it, or keeps errors back, and its form may leave
the id out.
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
    """Writes as LogHandler does; Python's hooks, which that sets for a project that chose it, stay as they are."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)
        self.path = os.environ.get("DOCKERABLE_LOG", "")
        self.descriptor, self.owner = -1, 0
        self.setFormatter(logging_configuration()["formatters"]["line"]["()"]())


records = Records()


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
    # As it was sent: what is decoded may hold anything.
    place = f"{environ['REQUEST_METHOD']} {environ['REQUEST_URI'].partition('?')[0]}"
    begun = False
    try:
        # Without exc_info, with which uWSGI prints the traceback and leaves the exception set.
        start_response("500 Internal Server Error", [("Content-Length", "0")])
    except OSError:
        begun = True
    # Here it is the application's exception again.
    what = f"{'The answer failed while it was sent' if begun else 'The application failed'}: {place}"
    records.handle(logging.LogRecord("dockerable.wsgi", logging.ERROR, __file__, 0, what, (), sys.exc_info()))
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
