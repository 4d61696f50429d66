"""application: starts the project: checks, waits for the database, migrates, becomes uWSGI.

The project is only loaded in a child process (child.py). This process, which becomes uWSGI's master, holds only
modules of Django and the standard library: its workers inherit these, and a chain reload still loads changed code.

What is mounted over /app is copied first (container/snapshot.py), checked, and served from the copy. A start after a
crash uses the copy that was in service: later changes wait for `reload` or the container's next start.

With --check-settings it loads the mounted settings, reports errors and ends. With --check, for bin/reload, it does so
with a new copy and the WSGI application, and warns of migrations that are due.
Reads: RUN_MIGRATIONS, UWSGI_RELOAD_ON_RSS; with --check DOCKERABLE_COPY, the path of the copy.
Writes: /run/snapshot; /run/failure if another start would not help.
Exits: the status of SettingsError (65, 66, 73, 78); 64 as uid 0; 70 the application or a migration fails; 73 no copy
can be made.
"""

import errno
import os
import resource
import signal
import sys
from pathlib import Path

import django

# Imported before the fork, for the modules that it imports.
import dockerable.application.preloaded  # noqa: F401
from dockerable.application import database, sqlite, worker_memory
from dockerable.application.child import end_with_parent, in_child
from dockerable.application.log import log, log_as_uwsgi
from dockerable.application.refusals import Final, refuse_unfit
from dockerable.container import snapshot
from dockerable.container.exit_status import CANNOT_CREATE, NO_INPUT, SOFTWARE
from dockerable.container.places import ROOM_IN_RUN
from dockerable.container.refuse_root import refuse_root

# File descriptors that uWSGI may open, if the container may: it reserves memory for each, a gigabyte at the kernel's
# highest limit. Its own option max-fd would log an error where the container's limit is lower.
MOST_DESCRIPTORS = 4096


def bound_descriptors() -> None:
    """Set the soft limit of open files to MOST_DESCRIPTORS, or to the hard limit if that is lower."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = MOST_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(MOST_DESCRIPTORS, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def copy_mounted(copy: Path, *, needs_room: bool = False) -> dict[Path, str]:
    """Copy what is mounted, and import from that copy from now on; with `needs_room` only if /run has room for it.

    Returns the folders that could not be copied, with the reasons; they are used as they are. Raises Final.
    """
    try:
        left = snapshot.make(copy, needs_room=needs_room)
    except OSError as reason:
        raise Final(CANNOT_CREATE, [f"what is mounted cannot be copied to {copy}: {reason} {ROOM_IN_RUN}"]) from None
    snapshot.use(copy)
    return left


def warn_of_uncopied(left: dict[Path, str]) -> None:
    """Log a warning for each mounted folder that could not be copied although modules were loaded from it."""
    files = [getattr(module, "__file__", None) or "" for module in list(sys.modules.values())]
    for folder, reason in left.items():
        if any(file.startswith(f"{folder}/") for file in files):
            full = reason == os.strerror(errno.ENOSPC)
            remedy = ROOM_IN_RUN if full else "(remedy: mount the environment's folder only)"
            log(
                f"warning: {folder} cannot be copied ({reason}): a worker that is replaced loads it as it is by then "
                f"{remedy}"
            )


def load_settings() -> None:
    """Import the settings and set Django up. Raises what they raise, and Final if the module does not exist."""
    try:
        django.setup()
    except ModuleNotFoundError as reason:
        module = os.environ["DJANGO_SETTINGS_MODULE"]
        # If another module is missing, the settings exist but import one that does not.
        if f"{module}.".startswith(f"{reason.name}."):
            raise Final(NO_INPUT, [f"DJANGO_SETTINGS_MODULE names {module}: {reason}"]) from None
        raise


def load_application() -> None:
    """Import the WSGI application as a worker does. Raises what the project raises."""
    __import__("dockerable.application.wsgi")


def prepare(copy: Path | None) -> None:
    """Do everything that must be done before uWSGI starts. `copy` is the new copy; None: use the one in service.

    Raises Final, and what the project raises.
    """
    left: dict[Path, str] = {}
    if copy:
        snapshot.discard()
        left = copy_mounted(copy)
    else:
        snapshot.use()
        if snapshot.finder.snapshot and snapshot.finder.snapshot.folders:
            log("starting again with what was loaded last; what was mounted since then waits for a reload")
    load_settings()
    refuse_unfit()
    sqlite.make_files()
    with sqlite.alone():
        database.wait_for_database()
        if os.environ.get("RUN_MIGRATIONS", "on") == "on":
            with database.migrating_alone():
                database.migrate()
    load_application()
    worker_memory.check_bound()
    warn_of_uncopied(left)


def check() -> None:
    """Check whether workers could serve what is mounted now. Raises Final, and what the project raises."""
    end_with_parent()
    # If memory runs out the kernel shall kill this process rather than a worker.
    Path("/proc/self/oom_score_adj").write_text("1000")
    # What is served already goes on: a reload is refused rather than done without the copy.
    left = copy_mounted(Path(os.environ["DOCKERABLE_COPY"]), needs_room=True)
    load_settings()
    refuse_unfit()
    load_application()
    warn_of_uncopied(left)
    database.warn_of_unapplied()


def check_for_reload() -> int:
    """Run `check` in a child. Returns the exit status: 0 if the check has passed."""
    end_with_parent()
    # Ctrl-C ends the process without Python's traceback.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    status = in_child(check, stopped=SOFTWARE)
    if status == -signal.SIGKILL:
        log("error: killed, most likely by the memory limit, which must leave room for the application once more")
    return status if status >= 0 else SOFTWARE


def start() -> int:
    """Prepare in a child, then become uWSGI. Returns the exit status if preparing fails or uWSGI has ended."""
    copy = None if snapshot.CURRENT.exists() else snapshot.place()
    if status := in_child(lambda: prepare(copy), ends_container=True):
        if status < 0:
            # End by the signal that ended the child, so that supervise logs it.
            os.kill(os.getpid(), -status)
        return status
    worker_memory.use_higher_bound()
    if copy:
        snapshot.commit(copy)
    snapshot.use()
    log("ready to serve, starting uWSGI")
    log_as_uwsgi()
    bound_descriptors()
    # Imported here, since only the image has it; checks and unit tests do not need it.
    import pyuwsgi

    pyuwsgi.run(["--ini", "/app/dockerable/uwsgi.ini"])
    return SOFTWARE


def main(arguments: list[str]) -> int:
    """Start, or check if the arguments ask for it. Returns the exit status."""
    if status := refuse_root("application"):
        return status
    if arguments == ["--check-settings"]:
        return in_child(load_settings)
    if arguments == ["--check"]:
        return check_for_reload()
    return start()
