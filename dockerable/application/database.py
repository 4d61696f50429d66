"""Prepares the database before the site is served: waits for a server, migrates.

What it waits for is told in the log and in /run/phase, which `ctl up` shows.
"""

import contextlib
import io
import sys
import time
from collections.abc import Iterator

from django.core.management import call_command
from django.db import OperationalError, connection
from django.db.migrations.executor import MigrationExecutor

from dockerable.application.log import log
from dockerable.container import phase

# The key of PostgreSQL's advisory lock: any number that nothing else uses in the same database.
MIGRATION_LOCK = 0x646F636B657261
# Seconds between two lines that give the same reason why the database does not answer, and between two attempts.
REMIND = 10.0
EVERY = 0.5
WAITING = "waiting for another start that migrates"


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
                log(WAITING)
                phase.write(WAITING)
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
