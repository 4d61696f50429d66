"""Reasons to refuse the start: exceptions of the project, and settings that are too insecure for a public site."""

import logging
import os
import re
import traceback

from django.conf import settings
from django.core.checks.security import base as security

from dockerable.application.log import log
from dockerable.container.exit_status import CONFIG, SOFTWARE
from dockerable.ops.logging import logging_configuration


class Final(Exception):
    """Another start would fail too. Has the exit status and the problems, one line each."""

    def __init__(self, status: int, problems: list[str]) -> None:
        super().__init__(problems)
        self.status = status
        self.problems = problems


def explain(reason: BaseException) -> Final:
    """Turn an exception of the project into Final.

    An exception with an `exit_status`, such as SettingsError, has its own messages, in `problems` or as its text. Any
    other is logged with its traceback, and its message names the project's file and line. Raises whatever the exception
    raises when it is turned into text.
    """
    if isinstance(status := getattr(reason, "exit_status", None), int):
        return Final(status, list(getattr(reason, "problems", [str(reason)])))
    log_traceback(reason)
    place = ""
    frames = traceback.extract_tb(reason.__traceback__)
    if ours := [frame for frame in frames if re.match("/app/(?!dockerable/)", frame.filename)]:
        place = f" ({ours[-1].filename}, line {ours[-1].lineno})"
    text = " ".join(str(reason).split())
    return Final(SOFTWARE, [f"{type(reason).__name__}: {text}{place}"])


def log_traceback(reason: BaseException) -> None:
    """Log an exception: in the container as one record in the project's format, elsewhere like Python."""
    if "DOCKERABLE_LOG" in os.environ:
        line = logging_configuration()["formatters"]["line"]["()"]()
        failed = (type(reason), reason, reason.__traceback__)
        log(line.format(logging.LogRecord("application", logging.ERROR, "", 0, "the project failed", (), failed)))
    else:
        log("".join(traceback.format_exception(reason)).rstrip())


def refuse_insecure() -> None:
    """Refuse settings that no public site may have, unless SILENCED_SYSTEM_CHECKS names the check. Raises Final."""
    if "local" in os.environ["DJANGO_SETTINGS_MODULE"].split("."):
        return
    found = {}
    if settings.DEBUG:
        found["security.W018"] = "DEBUG is on: every error page shows code and settings"
    if "*" in settings.ALLOWED_HOSTS:
        found["dockerable.E001"] = "ALLOWED_HOSTS holds '*': name your hosts"
    if security.check_secret_key(None):
        remedy = "(remedy: python3 -c 'import secrets; print(secrets.token_urlsafe(50))')"
        found["security.W009"] = f"SECRET_KEY is short or predictable {remedy}"
    problems = [
        f"{text}; to allow it: SILENCED_SYSTEM_CHECKS = ['{check}']"
        for check, text in found.items()
        if check not in settings.SILENCED_SYSTEM_CHECKS
    ]
    if problems:
        raise Final(CONFIG, problems)
