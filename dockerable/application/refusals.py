"""Reasons to refuse the start: exceptions of the project, settings that no public site may have."""

import logging
import os
import re
import traceback
from collections.abc import Sequence

from django.conf import settings
from django.core.checks.security import base as security
from django.http.request import validate_host

from dockerable.application.log import log
from dockerable.container.exit_status import CONFIG, SOFTWARE
from dockerable.container.kinds import SHOWN
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


def refuse_unfit() -> None:
    """Refuse settings that no public site may have, or with which it answers no request. Raises Final.

    SILENCED_SYSTEM_CHECKS allows each by the name of its check. Logs a warning for each name of NGINX_SERVER_NAME that
    the settings do not allow although they allow others.
    """
    names = os.environ.get("NGINX_SERVER_NAME", "").split()
    foreign = [name for name in names if not django_answers(name)]
    found = insecure()
    if foreign and foreign == names:
        found["dockerable.E002"] = no_name_is_allowed(names)
    elif "dockerable.W001" not in settings.SILENCED_SYSTEM_CHECKS:
        for name in foreign:
            log(
                f"warning: ALLOWED_HOSTS does not allow {name}, a name of NGINX_SERVER_NAME: its pages are 400 "
                f"(remedy: add {pattern(name)!r}; to allow it: SILENCED_SYSTEM_CHECKS = ['dockerable.W001'])"
            )
    problems = [
        f"{text}; to allow it: SILENCED_SYSTEM_CHECKS = ['{check}']"
        for check, text in found.items()
        if check not in settings.SILENCED_SYSTEM_CHECKS
    ]
    if problems:
        raise Final(CONFIG, problems)


def insecure() -> dict[str, str]:
    """What no public site may have, by the name of its check; nothing in the environment `local`."""
    found: dict[str, str] = {}
    if "local" in os.environ["DJANGO_SETTINGS_MODULE"].split("."):
        return found
    if settings.DEBUG:
        found["security.W018"] = "DEBUG is on: every error page shows code and settings"
    if "*" in settings.ALLOWED_HOSTS:
        found["dockerable.E001"] = "ALLOWED_HOSTS holds '*': name your hosts"
    if security.check_secret_key(None):
        remedy = "(remedy: python3 -c 'import secrets; print(secrets.token_urlsafe(50))')"
        found["security.W009"] = f"SECRET_KEY is short or predictable {remedy}"
    return found


def django_answers(server_name: str) -> bool:
    """Whether Django answers requests for a name of NGINX_SERVER_NAME; of a wildcard, for any name below it."""
    hosts: Sequence[str] = settings.ALLOWED_HOSTS
    if settings.DEBUG and not hosts:
        # As Django's HttpRequest.get_host().
        hosts = [".localhost", "127.0.0.1", "[::1]"]
    if not server_name.startswith("*."):
        return validate_host(server_name, hosts)
    parent = server_name.removeprefix("*")
    return validate_host(f"www{parent}", hosts) or any(
        host and host.lower().endswith(parent) and "*" not in host for host in hosts
    )


def no_name_is_allowed(names: list[str]) -> str:
    """The problem of ALLOWED_HOSTS that fits none of the server names, with its right spelling."""
    now, patterns = str(list(settings.ALLOWED_HOSTS)), list(map(pattern, names))
    return (
        f"ALLOWED_HOSTS = {now if len(now) <= SHOWN else f'{now[:SHOWN]}...'} allows no name of NGINX_SERVER_NAME, so "
        f"every page would be 400: write {patterns} in settings.py, or {' '.join(patterns)} in the variable or "
        "secrets.json"
    )


def pattern(server_name: str) -> str:
    """A server name in the form of ALLOWED_HOSTS, where a leading dot stands for nginx's wildcard."""
    return server_name.removeprefix("*") if server_name.startswith("*.") else server_name
