"""nginx as other programs meet it: its test of a configuration, and its reload."""

import contextlib
import os
import re
import signal
import subprocess
from pathlib import Path

from dockerable.container.places import NGINX_CONFIGURATION, NGINX_PID

PROGRAM = "/usr/sbin/nginx"


def refusal(configuration: Path = NGINX_CONFIGURATION) -> str:
    """What `nginx -t` says against a configuration, in one line; empty where it accepts it."""
    command = [PROGRAM, "-e", "stderr", "-t", "-q", "-c", str(configuration)]
    tested = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    if tested.returncode == 0:
        return ""
    lines = (re.sub(r"^.*\[emerg\] [0-9#: ]*", "", line) for line in tested.stderr.splitlines())
    return " ".join(line for line in lines if not line.endswith("test failed")) or "nginx gave no reason"


def master() -> int | None:
    """The pid of nginx's master process; None while there is none."""
    with contextlib.suppress(OSError, ValueError):
        return int(NGINX_PID.read_text())
    return None


def reload() -> str:
    """Test the configuration in use, then have nginx take it anew. Returns what nginx refuses, or nothing.

    An nginx that is not there is left alone: it will start with the new configuration.
    """
    if (pid := master()) is None:
        return ""
    if reason := refusal():
        return reason
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGHUP)
    return ""
