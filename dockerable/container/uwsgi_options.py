"""Checks the UWSGI_ variables that are not in the table of variables: uWSGI reads each as one of its options.

uWSGI ends at once for a name that is no option of its own, and for many impossible values. Here such a variable ends
the start with its name instead of five failed starts. What an orchestrator has put there is left out.
"""

import difflib
import subprocess
from collections.abc import Iterable, Mapping

from dockerable.container import uwsgi_lines
from dockerable.container.exit_status import USAGE
from dockerable.container.orchestrator import injected
from dockerable.container.report import Report
from dockerable.container.variables import CONTAINER

PREFIX = "UWSGI_"
# uWSGI is a module of this Python, so it is asked for its options there; -I keeps the project's modules out.
PYTHON = ("/opt/app/bin/python3", "-I", "-c", "import sys, pyuwsgi; pyuwsgi.run(sys.argv[1:])")
LIST = ("--dump-options",)
# Reads the configuration and prepares all but sockets and application. TRIED is its last line.
TRIAL = ("--ini", "/app/dockerable/uwsgi.ini", "--lazy-apps", "--no-server")
TRIED = "no-server mode requested. Goodbye."
# Seconds that either may take; both need a tenth of one.
PATIENCE = 10.0
# Options that the image cannot serve with, and why.
IMPOSSIBLE = {
    "UWSGI_WORKERS": "would override UWSGI_PROCESSES without a check: set UWSGI_PROCESSES",
    "UWSGI_DAEMONIZE": "would end what supervisord watches (remedy: take it out)",
    "UWSGI_DAEMONIZE2": "would end what supervisord watches (remedy: take it out)",
}
# Variables that uWSGI sets for itself, found where a process of uWSGI's runs `reload`.
UWSGI_OWN = {
    f"{PREFIX}{name}"
    for name in (
        "BROODLORD_NUM",
        "EMPEROR_FD",
        "EMPEROR_FD_CONFIG",
        "EMPEROR_PROXY",
        "JAIL_PID",
        "ORIGINAL_PROC_NAME",
        "RELOADS",
        "VASSALS_DIR",
    )
}


def check(environ: Mapping[str, str], report: Report) -> None:
    """Add an error for each variable that is no option or cannot be served with.

    Adds to `report.unset` those that uWSGI must not see.
    """
    if not (found := others(environ)):
        return
    options = available()
    for name in found:
        if environ[name] == "":
            report.unset.append(name)
        elif why := IMPOSSIBLE.get(name.upper()):
            report.error(USAGE, f"{name} {why}")
        elif name.upper() not in options and injected(name, environ[name]):
            report.unset.append(name)
            report.warnings.append(f"{name} is an orchestrator's address of a service, no option of uWSGI: ignored")
        elif options and name.upper() not in options:
            report.error(USAGE, f"{name} is no option of this image's uWSGI{nearest(name, options)}")


def try_values(environ: Mapping[str, str], report: Report) -> None:
    """Add an error if uWSGI refuses the options that the variables give it. Does nothing if they give it none.

    Only for a start: at its end uWSGI removes /run/ready.
    """
    given = [name for name in others(environ) if name not in report.unset]
    if not given:
        return
    kept = {name: value for name, value in environ.items() if name not in report.unset}
    done = run(TRIAL, {**kept, **report.values})
    if done is None or (done.returncode == 0 and (TRIED in done.stderr or not done.stdout)):
        return
    if done.returncode == 0:
        cause = "it prints something and ends"
    else:
        read = [uwsgi_lines.read(line) for line in done.stderr.splitlines()]
        lines = [text for level, text in read if level == "error"] or [text for _, text in read if text]
        cause = lines[-1] if lines else f"it ends with status {done.returncode}"
    report.error(USAGE, f"uWSGI refuses {', '.join(given)}: {cause}")


def others(environ: Mapping[str, str]) -> list[str]:
    """The names of all UWSGI_ variables that are neither in the table of variables nor uWSGI's own."""
    return sorted(
        name for name in environ if name.startswith(PREFIX) and name not in CONTAINER and name not in UWSGI_OWN
    )


def nearest(name: str, options: Iterable[str]) -> str:
    """The end of a message: the option that was probably meant."""
    # Without the prefix, which would make every name similar to every other.
    near = difflib.get_close_matches(
        name.upper().removeprefix(PREFIX), [one.removeprefix(PREFIX) for one in options], 1
    )
    return f": did you mean {PREFIX}{near[0]}?" if near else " (remedy: take it out)"


def available() -> set[str]:
    """The names of all variables that are options; empty if uWSGI cannot be asked, as outside of the image."""
    done = run(LIST, {})
    if done is None or done.returncode:
        return set()
    # uWSGI turns every underscore of a variable's name into a hyphen, so an option that has one cannot be given.
    return {f"{PREFIX}{line.upper().replace('-', '_')}" for line in done.stdout.splitlines() if "_" not in line}


def run(arguments: tuple[str, ...], environ: Mapping[str, str]) -> subprocess.CompletedProcess[str] | None:
    """Run uWSGI with these arguments and variables; None if it cannot be run or does not end in time."""
    try:
        return subprocess.run(
            [*PYTHON, *arguments],
            env=dict(environ),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=PATIENCE,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
