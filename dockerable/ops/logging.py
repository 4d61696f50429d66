"""A LOGGING for any Django project: each record is one line with its level, logger and request id.

    from dockerable.ops.logging import logging_configuration

    LOGGING = logging_configuration()

LOG_LEVEL is the least level that is logged. LOG_FORMAT makes a line text or a JSON object with the field names of the
Elastic Common Schema. If DOCKERABLE_LOG names a FIFO, records go there, and uncaught exceptions become records too;
otherwise records go to stderr.

Settings import this module, so it does not import Django.
"""

import fcntl
import json
import logging
import math
import os
import select
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from dockerable.container import ecs, variables
from dockerable.container.kinds import Invalid
from dockerable.container.variables import LOG_LEVELS
from dockerable.ops.request_id import request_id

# All characters that str.splitlines, and so some readers of the log, take for the end of a line.
LINE_ENDS = {ord(end): repr(end)[1:-1] for end in "\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029"}
# The attributes of every record; all others come from the caller's `extra`.
OWN = {*vars(logging.makeLogRecord({})), "message", "asctime", "taskName"}
uncaught = logging.getLogger("py.exceptions")


def logging_configuration(environ: Mapping[str, str] = os.environ) -> dict[str, Any]:
    """Django's LOGGING. Raises ImproperlyConfigured if LOG_LEVEL or LOG_FORMAT is wrong."""
    level = _checked(environ, "LOG_LEVEL").upper()
    formatter = JSONFormatter if _checked(environ, "LOG_FORMAT") == "json" else TextFormatter
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "filters": {"production": {"()": "django.utils.log.RequireDebugFalse"}},
        "formatters": {"line": {"()": formatter}},
        "handlers": {
            "log": {"()": LogHandler, "path": environ.get("DOCKERABLE_LOG", ""), "formatter": "line"},
            # As in Django's default; it sends nothing if ADMINS is empty.
            "mail_admins": {
                "class": "django.utils.log.AdminEmailHandler",
                "level": "ERROR",
                "filters": ["production"],
            },
        },
        "root": {"handlers": ["log"], "level": level},
        "loggers": {
            "django": {"handlers": ["mail_admins"], "level": level},
            # This logger's warnings are answers of 4xx, which the access log has already.
            "django.request": {"level": "ERROR" if level in ("INFO", "WARNING") else level},
        },
    }


def _checked(environ: Mapping[str, str], name: str) -> str:
    variable = variables.VARIABLES[name]
    value = environ.get(name) or variable.default_of({})
    try:
        return variable.check(value)
    except Invalid as reason:
        from django.core.exceptions import ImproperlyConfigured

        raise ImproperlyConfigured(variables.refusal(name, value, str(reason))) from None


def level_word(number: int) -> str:
    """The name of a record's level; a project's own level between two of ours gets the lower one's."""
    return LOG_LEVELS[min(max(number // 10 - 1, 0), len(LOG_LEVELS) - 1)]


def _guarded(read: Any, *arguments: Any) -> str:
    """The result of `read` as text. If it raises, a text that says so: a record must be logged even then."""
    try:
        return str(read(*arguments))
    except Exception as reason:
        return f"<{type(reason).__name__} while this was shown>"


def _plain(value: Any) -> bool:
    """Whether JSON and the schema's types can hold `value`."""
    if isinstance(value, int):
        return -(1 << 63) <= value < 1 << 63
    return value is None or isinstance(value, str) or (isinstance(value, float) and math.isfinite(value))


class TextFormatter(logging.Formatter):
    r"""`LEVEL: LOGGER [REQUEST ID]: MESSAGE`, without the level for info and without an id outside of a request.

    Line ends are escaped, a newline as \n, so that each record is one line; a \n in the message itself gets a second
    backslash. On a terminal nothing is escaped.
    """

    def __init__(self) -> None:
        super().__init__()
        self.for_terminal = not os.environ.get("DOCKERABLE_LOG") and bool(sys.stderr) and sys.stderr.isatty()

    def format(self, record: logging.LogRecord) -> str:
        """Return the record's line. Raises nothing."""
        word = level_word(record.levelno)
        identity = request_id.get()
        start = ("" if word == "info" else f"{word}: ") + record.name + (f" [{identity}]: " if identity else ": ")
        text = start + "\n".join([self.message(record), *filter(None, self.stacks(record))])
        return text if self.for_terminal else text.replace("\\n", "\\\\n").translate(LINE_ENDS)

    def message(self, record: logging.LogRecord) -> str:
        """Return the message; if its arguments do not fit, the message and the arguments unformatted."""
        try:
            return record.getMessage().rstrip("\n")
        except Exception as reason:
            shown = f"{_guarded(repr, record.msg)} with {_guarded(repr, record.args)}"
            return f"{shown} ({type(reason).__name__} while this was formatted)"

    def stacks(self, record: logging.LogRecord) -> tuple[str, str]:
        """Return the record's traceback and stack, each empty if the record has none."""
        trace = record.exc_text or ""
        if record.exc_info and record.exc_info[0]:
            trace = _guarded(self.formatException, record.exc_info)
        return trace.rstrip("\n"), (record.stack_info or "").rstrip("\n")


class JSONFormatter(TextFormatter):
    """One JSON object with the flat keys of the Elastic Common Schema, https://www.elastic.co/guide/en/ecs/."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record's line. Raises nothing."""
        moment = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        fields: dict[str, Any] = {
            "@timestamp": moment.replace("+00:00", "Z"),
            "event.dataset": "django",
            "log.level": level_word(record.levelno),
            "message": self.message(record),
            "log.logger": record.name,
            "process.pid": record.process,
            "ecs.version": ecs.VERSION,
        }
        if identity := request_id.get():
            fields["http.request.id"] = identity
        if record.exc_info and (kind := record.exc_info[0]):
            plain = kind.__module__ == "builtins"
            fields["error.type"] = kind.__qualname__ if plain else f"{kind.__module__}.{kind.__qualname__}"
            fields["error.message"] = _guarded(str, record.exc_info[1])
        if stacks := "\n".join(filter(None, self.stacks(record))):
            fields["error.stack_trace"] = stacks
        for name, value in vars(record).items():
            if name not in OWN:
                self.add(fields, str(name), value)
        # `default` is called for objects that JSON cannot hold.
        return json.dumps(fields, default=lambda value: _guarded(repr, value), separators=(",", ":"))

    def add(self, fields: dict[str, Any], name: str, value: Any) -> None:
        """Add an attribute from the caller's `extra`: Django's and dotted names as schema fields, others as labels."""
        if name == "request":
            # Django's development server passes a socket by this name, which lacks these attributes.
            with suppress(Exception):
                fields["url.path"], fields["http.request.method"] = str(value.path), str(value.method)
        elif name == "status_code" and isinstance(value, int):
            fields["http.response.status_code"] = int(value)
        else:
            fields.setdefault(
                name if "." in name else f"labels.{name}", value if _plain(value) else _guarded(repr, value)
            )


class LogHandler(logging.Handler):
    """Writes each record to the FIFO `path`, which PID 1 reads; to stderr if that fails.

    Writes to a pipe are atomic up to PIPE_BUF (4,096) bytes; other processes may write between the pieces of a longer
    one. So the processes share a lock on the FIFO: short records take it shared, long ones exclusively. Each process
    opens the FIFO itself, since flock() treats a descriptor inherited by fork as the same holder.
    """

    def __init__(self, path: str = "") -> None:
        super().__init__()
        self.path = path
        self.descriptor = -1
        self.owner = 0
        logging.captureWarnings(True)
        threading.excepthook = _thread_failed
        # Without a FIFO this is a command on a terminal: its user sees Python's own traceback.
        if path:
            sys.excepthook = _process_failed

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record."""
        try:
            line = self.format(record) + "\n"
            if not self.path or not self.sent(line.encode(errors="backslashreplace")):
                sys.stderr.write(line)
                sys.stderr.flush()
        except Exception:
            self.handleError(record)

    def sent(self, line: bytes) -> bool:
        """Whether the FIFO took the line."""
        try:
            if self.owner != os.getpid():
                self.reopen()
            fcntl.flock(self.descriptor, fcntl.LOCK_SH if len(line) <= select.PIPE_BUF else fcntl.LOCK_EX)
            try:
                while line:
                    line = line[os.write(self.descriptor, line) :]
            finally:
                fcntl.flock(self.descriptor, fcntl.LOCK_UN)
        except OSError:
            # The FIFO has no reader or is gone. The next record opens it again.
            self.owner = 0
            return False
        return True

    def reopen(self) -> None:
        """Open the FIFO for this process. Raises OSError; if the FIFO has no reader, without waiting for one."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1
        self.descriptor = os.open(self.path, os.O_WRONLY | os.O_NONBLOCK | os.O_APPEND)
        os.set_blocking(self.descriptor, True)
        self.owner = os.getpid()


def _thread_failed(arguments: threading.ExceptHookArgs) -> None:
    if arguments.exc_type is not SystemExit and arguments.exc_value:
        name = arguments.thread.name if arguments.thread else "?"
        uncaught.error("Uncaught exception in thread %s", name, exc_info=arguments.exc_value)


def _process_failed(kind: type[BaseException], value: BaseException, trace: Any) -> None:
    """Log an uncaught exception: Python calls this before it ends, uWSGI for each exception that it would print."""
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, value, trace)
    else:
        uncaught.error("Uncaught exception", exc_info=(kind, value, trace))
