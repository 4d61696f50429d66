"""Prepares the database before the site is served: makes SQLite's files, waits for a server, migrates.

What it waits for is told in the log and in /run/phase, which `ctl up` shows.
"""

import contextlib
import io
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from django.conf import settings
from django.core.management import call_command
from django.db import OperationalError, connection
from django.db.migrations.executor import MigrationExecutor

from dockerable.application.log import log
from dockerable.application.refusals import Final
from dockerable.container import phase
from dockerable.container.exit_status import CANNOT_CREATE
from dockerable.container.places import not_writable

# The key of PostgreSQL's advisory lock: any number that nothing else uses in the same database.
MIGRATION_LOCK = 0x646F636B657261
# Seconds between two lines that give the same reason why the database does not answer, and between two attempts.
REMIND = 10.0
EVERY = 0.5


def make_sqlite_files() -> None:
    """Make SQLite's files before Django does, and make existing ones writable for the group. Raises Final.

    SQLite would make its file 0640 under any umask, and -wal and -shm with the same mode. But the container's uid may
    change later, while its gid stays 0.
    """
    for alias, database in settings.DATABASES.items():
        name = str(database.get("NAME", ""))
        # A name that begins with `file:` is a URI, whose parameters are the project's to choose.
        if not database["ENGINE"].endswith("sqlite3") or not name or ":memory:" in name or name.startswith("file:"):
            continue
        # Migrations write the default database. Another may be data of the image, which is only read.
        if alias != "default" and os.access(name, os.R_OK) and not os.access(name, os.W_OK):
            continue
        for file in (name, f"{name}-wal", f"{name}-shm"):
            try:
                descriptor = os.open(file, (os.O_CREAT if file == name else 0) | os.O_RDWR, 0o660)
            except OSError as reason:
                if isinstance(reason, FileNotFoundError) and file != name:
                    continue
                raise Final(CANNOT_CREATE, [cannot_be_made(Path.cwd() / file, reason)]) from None
            # Fails if another uid owns the file, which does no harm: opening it for writing has worked.
            with contextlib.suppress(PermissionError):
                os.fchmod(descriptor, os.fstat(descriptor).st_mode | 0o660)
            os.close(descriptor)


def cannot_be_made(file: Path, reason: OSError) -> str:
    """The problem of a database's file that can be neither made nor written, with its remedy."""
    data = os.environ.get("DATA_DIR") or "/data"
    if not file.is_relative_to(data):
        return (
            f"the database {file} cannot be written: {reason.strerror} (remedy: a file in the data folder: "
            f"DATABASE_URL=sqlite:///{data}/db.sqlite3, or in settings.py 'NAME': '{data}/db.sqlite3')"
        )
    if isinstance(reason, FileNotFoundError):
        remedy = f"(remedy, on the host: docker run --rm -v VOLUME:{data} IMAGE mkdir -p {file.parent})"
        return f"{file.parent}, the folder of the database {file.name}, does not exist {remedy}"
    return not_writable(file) if isinstance(reason, PermissionError) else f"{file} cannot be made: {reason.strerror}"


def wait_for_database() -> None:
    """Wait without end until the default database takes a connection. Raises OperationalError for SQLite only."""
    if connection.vendor != "sqlite":
        phase.write("connecting to the database")
    # When each reason was logged last.
    logged: dict[str, float] = {}
    while True:
        try:
            connection.ensure_connection()
            phase.write("")
            return
        except OperationalError as reason:
            if connection.vendor == "sqlite":
                raise
            words = f"waiting for the database: {' '.join(str(reason).split())}"
        phase.write(words)
        now = time.monotonic()
        if now >= logged.get(words, -REMIND) + REMIND:
            logged[words] = now
            log(f"warning: {words}")
        time.sleep(EVERY)


@contextlib.contextmanager
def migrating_alone() -> Iterator[None]:
    """Let one container at a time migrate a PostgreSQL database; other containers that start wait here.

    The lock belongs to a transaction on a separate connection: so it holds through a connection pooler too, and ends
    with this process.
    """
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
                phase.write("waiting for another start that migrates")
                cursor.execute("SELECT pg_advisory_xact_lock(%s)", [MIGRATION_LOCK])
                phase.write("")
            yield
    finally:
        lock.close()


def migrate() -> None:
    """Apply all migrations that are due, and log their number. Raises what a migration raises."""
    output = io.StringIO()
    try:
        call_command("migrate", interactive=False, no_color=True, stdout=output)
    except BaseException:
        print(output.getvalue(), file=sys.stderr)
        raise
    log(f"the database is up to date, {output.getvalue().count('  Applying ')} migrations applied")


def warn_of_unapplied() -> None:
    """Log a warning if migrations are due: a reload does not apply them."""
    try:
        executor = MigrationExecutor(connection)
        plan = executor.migration_plan(executor.loader.graph.leaf_nodes())
    except Exception as reason:
        log(f"warning: whether migrations are due cannot be told: {' '.join(str(reason).split())}")
        return
    if plan:
        names = ", ".join(f"{migration.app_label}.{migration.name}" for migration, _ in plan)
        log(f"warning: migrations are not applied, and a reload does not: {names} (remedy: manage migrate)")
