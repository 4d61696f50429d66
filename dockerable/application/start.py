"""application: the application's own start. Checks, waits for the database, migrates, becomes uWSGI.

Everything that loads the project happens in a child, so that this process, which becomes uWSGI's
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

import contextlib
import io
import logging
import mmap
import os
import re
import signal
import sys
import time
import traceback
from collections.abc import Iterator
from pathlib import Path

# Imported before the fork, for the child and for every worker: what any Django loads and what needs no settings.
import django
import django.core.handlers.wsgi
import django.core.management
import django.core.management.commands.migrate
import django.db.backends.sqlite3.base
import django.db.migrations.autodetector
import django.template.backends.django
import django.urls.resolvers
import django.views.defaults

# What a project may use, and what dockerable/settings.py does.
with contextlib.suppress(ImportError):
    import pydantic_settings  # noqa: F401

from dockerable.container import snapshot
from dockerable.ops.logging import logging_configuration

FAILURE = Path("/run/failure")
UWSGI_LOG = "/run/log/uwsgi"
NO_INPUT, SOFTWARE, CANNOT_CREATE, CONFIG = 66, 70, 73, 78
MEGABYTE = 1024 * 1024
# From the child that loads the project: a higher bound than the variable's, in MB; 0 where that will do.
RELOAD_ON_RSS = mmap.mmap(-1, 4)
# Any number that nobody else uses in the same database.
MIGRATION_LOCK = 0x646F636B657261
PATIENCE = 10.0  # seconds between two lines about a database that does not answer


def log(message: str) -> None:
    print(message, file=sys.stderr, flush=True)


class Final(Exception):
    """Starting again would not help: an exit status and what is wrong, one line each."""

    def __init__(self, status: int, problems: list[str]) -> None:
        super().__init__(problems)
        self.status = status
        self.problems = problems


def load_settings() -> None:
    """Import the settings and set Django up. Raises what they raise, or Final."""
    try:
        django.setup()
    except ModuleNotFoundError as reason:
        module = os.environ["DJANGO_SETTINGS_MODULE"]
        if f"{module}.".startswith(f"{reason.name}."):
            raise Final(NO_INPUT, [f"DJANGO_SETTINGS_MODULE names {module}: {reason}"]) from None
        raise


def explain(reason: BaseException) -> Final:
    """What an exception means: its own status and problems, or a traceback in one block."""
    if isinstance(status := getattr(reason, "exit_status", None), int):
        return Final(status, list(getattr(reason, "problems", [str(reason)])))
    if "DOCKERABLE_LOG" in os.environ:
        # As the project would log it: one record.
        line = logging_configuration()["formatters"]["line"]["()"]()
        failed = (type(reason), reason, reason.__traceback__)
        log(line.format(logging.LogRecord("application", logging.ERROR, "", 0, "the project failed", (), failed)))
    else:
        log("".join(traceback.format_exception(reason)).rstrip())
    place = ""
    frames = traceback.extract_tb(reason.__traceback__)
    if ours := [frame for frame in frames if re.match("/app/(?!dockerable/)", frame.filename)]:
        place = f" ({ours[-1].filename}, line {ours[-1].lineno})"
    text = " ".join(str(reason).split())
    return Final(SOFTWARE, [f"{type(reason).__name__}: {text}{place}"])


def refuse_insecure() -> None:
    """Settings nobody may serve the public with, unless SILENCED_SYSTEM_CHECKS names the check. Raises Final."""
    from django.conf import settings
    from django.core.checks.security import base

    if "local" in os.environ["DJANGO_SETTINGS_MODULE"].split("."):
        return
    problems = []
    if settings.DEBUG:
        problems.append(("security.W018", "DEBUG is on: every error page shows code and settings"))
    if "*" in settings.ALLOWED_HOSTS:
        problems.append(("dockerable.E001", "ALLOWED_HOSTS holds '*': name your hosts"))
    if base.check_secret_key(None):
        problems.append(
            (
                "security.W009",
                "SECRET_KEY is short or predictable (remedy: python3 -c "
                "'import secrets; print(secrets.token_urlsafe(50))')",
            )
        )
    problems = [(name, text) for name, text in problems if name not in settings.SILENCED_SYSTEM_CHECKS]
    if problems:
        raise Final(CONFIG, [f"{text}; to allow it: SILENCED_SYSTEM_CHECKS = ['{name}']" for name, text in problems])


def make_sqlite_files() -> None:
    """SQLite makes its file 0640 under any umask; made first, it and its WAL stay writable for another uid."""
    from django.conf import settings

    for database in settings.DATABASES.values():
        name = str(database.get("NAME", ""))
        if not database["ENGINE"].endswith("sqlite3") or not name or ":memory:" in name:
            continue
        for file in (name, f"{name}-wal", f"{name}-shm"):
            try:
                descriptor = os.open(file, (os.O_CREAT if file == name else 0) | os.O_RDWR, 0o660)
            except PermissionError:
                from dockerable.container.places import not_writable

                raise Final(CANNOT_CREATE, [not_writable(Path(file))]) from None
            except FileNotFoundError:
                if file == name:
                    raise
                continue
            # A manage command may have made it before the first start.
            with contextlib.suppress(PermissionError):
                os.fchmod(descriptor, os.fstat(descriptor).st_mode | 0o660)
            os.close(descriptor)


def wait_for_database() -> None:
    """Until the default database takes a connection; a server that does not answer is waited for without end."""
    from django.db import OperationalError, connection

    next_line = 0.0
    while True:
        try:
            connection.ensure_connection()
            return
        except OperationalError as reason:
            if connection.vendor == "sqlite":
                raise
            if time.monotonic() >= next_line:
                next_line = time.monotonic() + PATIENCE
                log(f"waiting for the database: {' '.join(str(reason).split())}")
        time.sleep(0.5)


@contextlib.contextmanager
def migrating_alone() -> Iterator[None]:
    """Of containers that start together on one PostgreSQL server one migrates, and the others wait for it.

    The lock is a transaction's, on a connection of its own: so a pooler in between keeps it, and it ends with us.
    """
    from django.db import connection

    if connection.vendor != "postgresql":
        yield
        return
    lock = connection.copy()
    try:
        lock.ensure_connection()
        lock.set_autocommit(False)
        with lock.cursor() as cursor:
            for bound in ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout"):
                cursor.execute(f"SET LOCAL {bound} = 0")
            cursor.execute("SELECT pg_try_advisory_xact_lock(%s)", [MIGRATION_LOCK])
            if not cursor.fetchone()[0]:
                log("waiting for another start that migrates")
                cursor.execute("SELECT pg_advisory_xact_lock(%s)", [MIGRATION_LOCK])
            yield
    finally:
        lock.close()


def migrate() -> None:
    """Apply what is not applied yet; one line tells how much."""
    output = io.StringIO()
    try:
        django.core.management.call_command("migrate", interactive=False, no_color=True, stdout=output)
    except BaseException:
        print(output.getvalue(), file=sys.stderr)
        raise
    log(f"the database is up to date, {output.getvalue().count('  Applying ')} migrations applied")


def check_memory() -> None:
    """A worker that is over UWSGI_RELOAD_ON_RSS before its first request would be replaced after each one."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    resident = pages * os.sysconf("SC_PAGE_SIZE") // MEGABYTE
    bound, least = int(os.environ["UWSGI_RELOAD_ON_RSS"]), resident + resident // 4
    if 0 < bound < least:
        log(
            f"warning: UWSGI_RELOAD_ON_RSS={bound} is too little for an application that takes {resident} MB "
            f"before its first request: using {least} (remedy: fewer UWSGI_PROCESSES, or a higher memory limit)"
        )
        RELOAD_ON_RSS[:] = least.to_bytes(4)


def warn_of_unapplied() -> None:
    """A reload does not migrate: one line where there is something to."""
    from django.db import connection
    from django.db.migrations.executor import MigrationExecutor

    try:
        executor = MigrationExecutor(connection)
        plan = executor.migration_plan(executor.loader.graph.leaf_nodes())
    except Exception as reason:
        log(f"warning: whether migrations are due cannot be told: {' '.join(str(reason).split())}")
        return
    if plan:
        names = ", ".join(f"{migration.app_label}.{migration.name}" for migration, _ in plan)
        log(f"warning: migrations are not applied, and a reload does not: {names} (remedy: manage migrate)")


def pin(copy: Path) -> dict[Path, str]:
    """Copy what is mounted, and load that copy from now on. Returns what is used in its place. Raises Final."""
    try:
        left = snapshot.make(copy)
    except OSError as reason:
        remedy = "(remedy: room in /run, such as --tmpfs /run:mode=0770,size=64m, and a restart)"
        raise Final(CANNOT_CREATE, [f"what is mounted cannot be copied to {copy}: {reason} {remedy}"]) from None
    snapshot.use(copy)
    return left


def warn_of_unpinned(left: dict[Path, str]) -> None:
    """One line for each mounted folder whose modules are in use without a copy."""
    files = [getattr(module, "__file__", None) or "" for module in list(sys.modules.values())]
    for folder, reason in left.items():
        if any(file.startswith(f"{folder}/") for file in files):
            log(
                f"warning: {folder} cannot be copied ({reason}): a worker that is replaced loads it as it is by then"
                " (remedy: mount the environment's folder only)"
            )


def prepare(copy: Path | None) -> None:
    """All that must hold before uWSGI may start, with a new copy or that in service. Raises what the project does."""
    left: dict[Path, str] = {}
    if copy:
        snapshot.discard()
        left = pin(copy)
    else:
        snapshot.use()
        if snapshot.finder.snapshot and snapshot.finder.snapshot.folders:
            log("starting again with what was loaded last; what was mounted since then waits for a reload")
    load_settings()
    refuse_insecure()
    make_sqlite_files()
    wait_for_database()
    if os.environ.get("RUN_MIGRATIONS", "on") == "on":
        with migrating_alone():
            migrate()
    __import__("dockerable.application.wsgi")
    check_memory()
    warn_of_unpinned(left)


def check() -> None:
    """Whether workers could serve what is mounted now. Raises what the project does."""
    end_with_parent()
    # Where memory is short it is this process that the kernel ends, and no worker.
    Path("/proc/self/oom_score_adj").write_text("1000")
    left = pin(Path(os.environ["DOCKERABLE_COPY"]))
    load_settings()
    refuse_insecure()
    __import__("dockerable.application.wsgi")
    warn_of_unpinned(left)
    warn_of_unapplied()


def end_with_parent() -> None:
    """Have the kernel end this process when its parent ends: a check is nobody's once its reload was killed."""
    # Here only, since a start has no use for it.
    import ctypes

    pr_set_pdeathsig = 1
    ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)
    if os.getppid() == 1:
        os._exit(SOFTWARE)


def tell_failure(final: Final) -> None:
    """Write the file of which init makes the container's end; where /run is full it is empty and tells that much."""
    try:
        FAILURE.write_text(f"{final.status} {'; '.join(final.problems)}\n")
    except OSError as reason:
        log(f"error: {FAILURE} cannot be written: {reason.strerror}")


def log_as_uwsgi() -> None:
    """What comes from here on is uWSGI's, and what the project prints instead of logging it."""
    with contextlib.suppress(OSError):
        descriptor = os.open(UWSGI_LOG, os.O_WRONLY)
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)
        os.close(descriptor)


def attempt(step, *arguments: object) -> int:
    """Run one step; its exit status, with what ended it told."""
    try:
        step(*arguments)
        return 0
    except BaseException as reason:
        final = reason if isinstance(reason, Final) else explain(reason)
    for problem in final.problems:
        log(f"error: {problem}")
    if step is prepare:
        tell_failure(final)
    return final.status


def in_child(step, *arguments: object) -> int:
    """Run one step in a child process; its exit status."""
    child = os.fork()
    if child == 0:
        status = SOFTWARE
        try:
            status = attempt(step, *arguments)
        except BaseException:
            # An exception that cannot be shown as text, for one.
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(status)

    def stop(*_: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)  # a transaction that is cut is rolled back
        # A start that is stopped has not failed; a check has not passed.
        os._exit(SOFTWARE if step is check else 0)

    signal.signal(signal.SIGTERM, stop)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    return status


def main(arguments: list[str]) -> int:
    if arguments == ["--check-settings"]:
        return in_child(load_settings)
    if arguments == ["--check"]:
        end_with_parent()
        # Ctrl-C: who typed it needs no traceback.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        status = in_child(check)
        if status == -signal.SIGKILL:
            log("error: killed, most likely by the memory limit, which must leave room for the application once more")
        return status if status >= 0 else SOFTWARE
    copy = None if snapshot.CURRENT.exists() else snapshot.place()
    if status := in_child(prepare, copy):
        if status < 0:
            # Ending the same way tells supervise how.
            os.kill(os.getpid(), -status)
        return status
    if bound := int.from_bytes(RELOAD_ON_RSS[:]):
        os.environ["UWSGI_RELOAD_ON_RSS"] = str(bound)
    if copy:
        snapshot.commit(copy)
    snapshot.use()
    log("ready to serve, starting uWSGI")
    log_as_uwsgi()
    import pyuwsgi

    pyuwsgi.run(["--ini", "/app/dockerable/uwsgi.ini"])
    return SOFTWARE
