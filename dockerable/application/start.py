"""application: the application's own start. Checks, waits for the database, migrates, becomes uWSGI.

Everything that loads the project happens in a child (child.py), so that this process, which becomes uWSGI's
master, holds modules of Django and the standard library only: its workers start warm, and a chain
reload still loads changed code.

What is mounted over /app is copied first (container/snapshot.py), checked and served from the copy. A start after
a crash takes the copy that was in service: what is mounted by then is for `reload` or the container's next start.

With --check-settings it loads the settings as they are mounted, reports and ends; with --check, which is bin/reload's,
it does so with a new copy and the WSGI application, and warns of migrations that are not applied.
Reads: RUN_MIGRATIONS, UWSGI_RELOAD_ON_RSS; with --check DOCKERABLE_COPY, the place of the copy.
Writes: /run/snapshot; /run/failure where starting again would not help.
Exits: the status of SettingsError (65, 66, 73, 78); 70 the application or a migration fails; 73 no copy can be made.
"""

import os
import signal
import sys
from pathlib import Path

import django

# Loaded before the fork, for what it imports.
import dockerable.application.preloaded  # noqa: F401
from dockerable.application import database, worker_memory
from dockerable.application.child import end_with_parent, in_child
from dockerable.application.log import log, log_as_uwsgi
from dockerable.application.refusals import Final, refuse_insecure
from dockerable.container import snapshot
from dockerable.container.exit_status import CANNOT_CREATE, NO_INPUT, SOFTWARE
from dockerable.container.places import ROOM_IN_RUN


def copy_mounted(copy: Path) -> dict[Path, str]:
    """Copy what is mounted, and load that copy from now on.

    Returns the folders that are used without a copy, each with the reason. Raises Final.
    """
    try:
        left = snapshot.make(copy)
    except OSError as reason:
        raise Final(CANNOT_CREATE, [f"what is mounted cannot be copied to {copy}: {reason} {ROOM_IN_RUN}"]) from None
    snapshot.use(copy)
    return left


def warn_of_uncopied(left: dict[Path, str]) -> None:
    """Warn of each mounted folder whose modules are in use without a copy."""
    files = [getattr(module, "__file__", None) or "" for module in list(sys.modules.values())]
    for folder, reason in left.items():
        if any(file.startswith(f"{folder}/") for file in files):
            log(
                f"warning: {folder} cannot be copied ({reason}): a worker that is replaced loads it as it is by then"
                " (remedy: mount the environment's folder only)"
            )


def load_settings() -> None:
    """Import the settings and set Django up. Raises what they raise, and Final where there are none of that name."""
    try:
        django.setup()
    except ModuleNotFoundError as reason:
        module = os.environ["DJANGO_SETTINGS_MODULE"]
        # Another module that is missing is one that the settings import.
        if f"{module}.".startswith(f"{reason.name}."):
            raise Final(NO_INPUT, [f"DJANGO_SETTINGS_MODULE names {module}: {reason}"]) from None
        raise


def load_application() -> None:
    """Import what the workers will serve. Raises what the project does."""
    __import__("dockerable.application.wsgi")


def prepare(copy: Path | None) -> None:
    """Do all that must be done before uWSGI may start, with a new copy or, for None, with the one in service.

    Raises Final, and what the project does.
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
    refuse_insecure()
    database.make_sqlite_files()
    database.wait_for_database()
    if os.environ.get("RUN_MIGRATIONS", "on") == "on":
        with database.migrating_alone():
            database.migrate()
    load_application()
    worker_memory.check_bound()
    warn_of_uncopied(left)


def check() -> None:
    """Find out whether workers could serve what is mounted now. Raises Final, and what the project does."""
    end_with_parent()
    # Where memory is short the kernel kills this process rather than a worker.
    Path("/proc/self/oom_score_adj").write_text("1000")
    left = copy_mounted(Path(os.environ["DOCKERABLE_COPY"]))
    load_settings()
    refuse_insecure()
    load_application()
    warn_of_uncopied(left)
    database.warn_of_unapplied()


def check_for_reload() -> int:
    """Run `check` in a child. Returns the exit status: 0 only where it has passed."""
    end_with_parent()
    # Without Python's traceback for Ctrl-C.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    status = in_child(check, stopped=SOFTWARE)
    if status == -signal.SIGKILL:
        log("error: killed, most likely by the memory limit, which must leave room for the application once more")
    return status if status >= 0 else SOFTWARE


def start() -> int:
    """Prepare in a child, then become uWSGI. Returns the exit status where that does not come about or has ended."""
    copy = None if snapshot.CURRENT.exists() else snapshot.place()
    if status := in_child(lambda: prepare(copy), ends_container=True):
        if status < 0:
            # supervise then logs the signal that ended the child.
            os.kill(os.getpid(), -status)
        return status
    worker_memory.use_higher_bound()
    if copy:
        snapshot.commit(copy)
    snapshot.use()
    log("ready to serve, starting uWSGI")
    log_as_uwsgi()
    # Imported here only: it is in the image alone, and neither a check nor a unit test needs it.
    import pyuwsgi

    pyuwsgi.run(["--ini", "/app/dockerable/uwsgi.ini"])
    return SOFTWARE


def main(arguments: list[str]) -> int:
    """Start, or check where the arguments say so. Returns the exit status."""
    if arguments == ["--check-settings"]:
        return in_child(load_settings)
    if arguments == ["--check"]:
        return check_for_reload()
    return start()
