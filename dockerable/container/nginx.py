"""Tests nginx's configuration and reloads nginx."""

import contextlib
import os
import re
import signal
import subprocess
from pathlib import Path

from dockerable.container.places import NGINX_CONFIGURATION, NGINX_PID

PROGRAM = "/usr/sbin/nginx"


def refusal(configuration: Path = NGINX_CONFIGURATION) -> str:
    """Why `nginx -t` refuses a configuration, in one line; empty if it accepts it."""
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
    """Test the configuration in use, then make nginx load it. Returns why nginx refuses it, or an empty string.

    Does nothing if nginx does not run: it will start with the new configuration.
    """
    if (pid := master()) is None:
        return ""
    if reason := refusal():
        return reason
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGHUP)
    return ""
