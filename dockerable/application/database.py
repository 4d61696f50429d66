"""Prepares the database before the site is served: makes SQLite's files, waits for a server, migrates."""

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
from dockerable.container.exit_status import CANNOT_CREATE
from dockerable.container.places import not_writable

# The key of PostgreSQL's advisory lock: any number that nothing else uses in the same database.
MIGRATION_LOCK = 0x646F636B657261
# Seconds between two lines about a database that does not answer.
REMIND = 10.0


def make_sqlite_files() -> None:
    """Make SQLite's files before Django does, and make existing ones writable for the group. Raises Final, OSError.

    SQLite would make its file 0640 under any umask, and -wal and -shm with the same mode. But the container's uid may
    change later, while its gid stays 0.
    """
    for database in settings.DATABASES.values():
        name = str(database.get("NAME", ""))
        if not database["ENGINE"].endswith("sqlite3") or not name or ":memory:" in name:
            continue
        for file in (name, f"{name}-wal", f"{name}-shm"):
            try:
                descriptor = os.open(file, (os.O_CREAT if file == name else 0) | os.O_RDWR, 0o660)
            except PermissionError:
                raise Final(CANNOT_CREATE, [not_writable(Path(file))]) from None
            except FileNotFoundError:
                if file == name:
                    raise
                continue
            # Fails if another uid owns the file, which does no harm: opening it for writing has worked.
            with contextlib.suppress(PermissionError):
                os.fchmod(descriptor, os.fstat(descriptor).st_mode | 0o660)
            os.close(descriptor)


def wait_for_database() -> None:
    """Wait without end until the default database takes a connection. Raises OperationalError for SQLite only."""
    next_line = 0.0
    while True:
        try:
            connection.ensure_connection()
            return
        except OperationalError as reason:
            if connection.vendor == "sqlite":
                raise
            if time.monotonic() >= next_line:
                next_line = time.monotonic() + REMIND
                log(f"waiting for the database: {' '.join(str(reason).split())}")
        time.sleep(0.5)


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
                cursor.execute("SELECT pg_advisory_xact_lock(%s)", [MIGRATION_LOCK])
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
