"""The database at start and later: a server that is down, migrations, and files that another uid has made."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from tests.support.docker import LABEL, docker, unique
from tests.support.environments import MODULE, app_with_migration, settings_folder
from tests.support.http import PASSWORD, USER, Browser
from tests.support.stack import Stack
from tests.support.tree import helper_image
from tests.support.wait import wait_until

NewStack = Callable[[Stack], Stack]
DUMP = "import sqlite3; print(*sqlite3.connect('/data/db.sqlite3').iterdump(), sep='\\n')"
# The second is what the database refuses.
REFUSED_MIGRATION = """
    migrations.RunSQL("CREATE TABLE half (id integer)"),
    migrations.RunSQL("UPDATE accounts_user SET username = NULL"),
"""


@pytest.fixture(scope="session")
def postgres() -> str:
    return helper_image("postgres")


@pytest.fixture
def network() -> Iterator[str]:
    """A network for a site and its database, removed with the database's container `NETWORK-db`."""
    name = unique("net")
    docker("network", "create", "--label", LABEL, name)
    yield name
    docker("rm", "-f", "-v", f"{name}-db", check=False)
    docker("network", "rm", name)


@pytest.fixture(scope="module")
def data() -> Iterator[str]:
    """A data volume with a migrated database and a user in it."""
    name = unique("data")
    docker("volume", "create", "--label", LABEL, name)
    try:
        words = ("--label", LABEL, "-v", f"{name}:/data", "-e", f"DJANGO_SUPERUSER_PASSWORD={PASSWORD}", Stack().image)
        create = f"manage migrate -v 0 && manage createsuperuser --noinput --username {USER} --email ada@example.com"
        docker("run", "--rm", *words, "sh", "-c", create)
        yield name
    finally:
        docker("volume", "rm", "-f", name)


def in_volume(volume: str, *command: str, uid: int = 10001) -> str:
    """What a command prints in a container of its own that has the volume."""
    words = ("--label", LABEL, "--user", f"{uid}:0", "-v", f"{volume}:/data", Stack().image)
    return docker("run", "--rm", *words, *command)


def status(stack: Stack) -> int:
    try:
        return stack.get().status_code
    except httpx.TransportError:
        return 0


def test_a_database_that_is_down_is_waited_for_at_the_start_and_survived_later(
    network: str, new_stack: NewStack, postgres: str
) -> None:
    secret = "word-4b1d"
    variables = {"DATABASE_URL": f"postgres://app:{secret}@db:5432/app"}
    stack = new_stack(Stack(variables, options=["--network", network]))
    stack.allowed = [
        "waiting for the database: ",
        r"django\.request.*: Service Unavailable|project\.start\.views.*: The database does not answer: ",
    ]
    stack.start()
    assert stack.says("django: warning: waiting for the database: ")
    wait_until(lambda: status(stack) == 503)
    # What `ctl up` shows.
    waiting = "the application is starting: waiting for the database: "
    wait_until(lambda: stack.exec("healthcheck", check=False).startswith(waiting))
    assert "<title>Starting</title>" in stack.get().text

    words = ("--name", f"{network}-db", "--network", network, "--network-alias", "db", "--label", LABEL)
    docker("run", "-d", *words, postgres)
    wait_until(lambda: status(stack) == 200)
    assert "PostgreSQL, reachable" in stack.get().text
    assert stack.says("the database is up to date, 20 migrations applied")

    docker("stop", f"{network}-db")
    page = stack.get()
    assert (page.status_code, "not reachable" in page.text) == (503, True)
    identity = page.headers["X-Request-ID"]
    assert f"dockerable/ctl logs ENV --request {identity}" in page.text
    assert stack.says(f"project.start.views [{identity}]: The database does not answer: ")
    assert "Retry-After" not in page.headers
    docker("start", f"{network}-db")
    wait_until(lambda: status(stack) == 200)

    assert stack.logs().count("supervisor: starting application") == 1
    assert stack.state()["Status"] == "running"
    assert secret not in stack.logs()


def test_of_two_starts_at_once_one_migrates_and_both_serve(
    network: str, new_stack: NewStack, postgres: str, tmp_path: Path
) -> None:
    words = ("--name", f"{network}-db", "--network", network, "--network-alias", "db", "--label", LABEL)
    docker("run", "-d", *words, postgres)
    # Long enough for the other container to reach the lock.
    files = app_with_migration('migrations.RunSQL("SELECT pg_sleep(5)")')
    variables = {"DATABASE_URL": "postgres://app:app@db:5432/app", "DJANGO_SETTINGS_MODULE": MODULE}
    mounts = settings_folder(tmp_path / "prod", files)
    both = [new_stack(Stack(variables, options=["--network", network], mounts=mounts)) for _ in range(2)]
    for stack in both:
        stack.allowed = ["waiting for the database: "]
        stack.start()
    for stack in both:
        stack.wait_healthy(60)
    applied = sorted(re.findall(r"(\d+) migrations applied", "".join(stack.logs() for stack in both)), key=int)
    assert applied == ["0", "21"]
    assert sum("waiting for another start that migrates" in stack.logs() for stack in both) == 1
    assert [status(stack) for stack in both] == [200, 200]


def test_of_two_starts_on_one_empty_sqlite_file_one_migrates_and_both_serve(
    new_stack: NewStack, tmp_path: Path
) -> None:
    # Long enough for the other container to reach the lock.
    files = app_with_migration("migrations.RunPython(lambda *_: time.sleep(3))")
    mounts, variables = settings_folder(tmp_path / "prod", files), {"DJANGO_SETTINGS_MODULE": MODULE}
    first = Stack(variables, mounts=mounts)
    # Removed before the one whose volume it uses.
    second = new_stack(Stack(variables, mounts=mounts, volume=first.volume, options=["--user", "54321:0"]))
    new_stack(first)
    for stack in (first, second):
        stack.start()
    for stack in (first, second):
        stack.wait_healthy(60)
    logs = first.logs() + second.logs()
    assert sorted(re.findall(r"(\d+) migrations applied", logs), key=int) == ["0", "21"]
    assert logs.count("waiting for another start that migrates") == 1
    assert [status(first), status(second)] == [200, 200]


def test_a_migration_that_the_database_refuses_ends_the_container_and_leaves_the_data(
    new_stack: NewStack, data: str, tmp_path: Path
) -> None:
    before = in_volume(data, "python3", "-c", DUMP)
    assert f"'{USER}'" in before
    mounts = settings_folder(tmp_path / "prod", app_with_migration(REFUSED_MIGRATION))
    stack = new_stack(Stack({"DJANGO_SETTINGS_MODULE": MODULE}, mounts=mounts, volume=data))
    stack.allowed = [
        "application ended with status 70",
        "IntegrityError",
        "^Traceback",
        "exception was the direct cause",
        "exc_value",
    ]
    assert stack.start().wait_end() == 70
    assert "IntegrityError: NOT NULL constraint failed: accounts_user.username" in stack.last_line()
    assert stack.logs().count("supervisor: starting application") == 1
    assert in_volume(data, "python3", "-c", DUMP) == before


def test_data_of_one_uid_serve_another(new_stack: NewStack, data: str) -> None:
    first = new_stack(Stack(volume=data)).up()
    assert Browser(first).log_in().status_code == 302
    # Killed, so that SQLite's other two files stay.
    docker("kill", first.name)
    assert "db.sqlite3-wal" in in_volume(data, "ls", "/data")

    second = new_stack(Stack(volume=data, options=["--user", "54321:0"])).up()
    browser = Browser(second)
    assert browser.log_in().status_code == 302
    form = {"title": "Note"}
    answer = browser.submit("/admin/start/document/add/", form, files={"file": ("note.txt", b"kept")})
    assert answer.status_code == 302
    assert second.get("/media/documents/note.txt").text == "kept"
    second.exec("manage", "createsuperuser", "--noinput", "--username", "bob", "--email", "bob@example.com")
    assert second.stop() == 0

    # And the other way round.
    script = "echo more >>/data/media/documents/note.txt && manage clearsessions"
    in_volume(data, "sh", "-c", script)
    assert "'bob'" in in_volume(data, "python3", "-c", DUMP)
