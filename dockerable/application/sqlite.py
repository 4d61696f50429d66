"""The files of SQLite databases: made before Django makes them, not published, and migrated by one start at a time."""

import contextlib
import fcntl
import os
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path

from django.conf import settings
from django.db import connection

from dockerable.application.database import WAITING
from dockerable.application.log import log
from dockerable.application.refusals import Final
from dockerable.container import phase
from dockerable.container.exit_status import CANNOT_CREATE, CONFIG
from dockerable.container.kinds import shown
from dockerable.container.places import mount_of, not_writable, on_volume


def make_files() -> None:
    """Make SQLite's files before Django does, and make existing ones writable for the group. Raises Final.

    SQLite would make its file 0640 under any umask, and -wal and -shm with the same mode. But the container's uid may
    change later, while its gid stays 0.
    """
    for alias, database in settings.DATABASES.items():
        name = file_of(database)
        if not name:
            continue
        refuse_published(name)
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
        warn_of_other_names(Path(name))


def file_of(database: Mapping[str, object]) -> str:
    """The path of an SQLite database's file, from its settings; empty for a server and for a database in memory.

    Also empty for a name that begins with `file:`, a URI, whose parameters are the project's to choose.
    """
    name = str(database.get("NAME", ""))
    is_file = str(database["ENGINE"]).endswith("sqlite3") and ":memory:" not in name and not name.startswith("file:")
    return name if is_file else ""


def refuse_published(file: str) -> None:
    """Raise Final if nginx would serve a database's file: it is in media, or is a link that leads there.

    Whoever breaks into the application may leave such a link, which would publish the database for ever.
    """
    target, media = os.path.realpath(file), os.path.realpath(Path(os.environ.get("DATA_DIR", "/data"), "media"))
    if not target.startswith(f"{media}/"):
        return
    problem = f"the database {file} is {shown(target)}, which nginx serves to everybody"
    if not Path(file).is_symlink():
        raise Final(CONFIG, [f"{problem}: move it out of {media}, and change its NAME in the settings"])
    # SQLite has its other files beside the file that the link leads to.
    pairs = [(f"{target}{end}", f"{file}{end}") for end in ("", "-wal", "-shm") if os.path.lexists(f"{target}{end}")]
    moves = " && ".join(shlex.join(["mv", "-T", *pair]) for pair in pairs) or shlex.join(["rm", file])
    command = on_volume(mount_of(Path(file).parent), f"sh -c {shlex.quote(moves)}")
    raise Final(CONFIG, [f"{problem} (remedy, on the host: {command})"])


def warn_of_other_names(file: Path) -> None:
    """Warn if a database's file has another name, which may be in media: no check of links finds it there."""
    if file.stat().st_nlink > 1:
        command = on_volume(mount_of(file.parent), f"find {mount_of(file.parent)} -samefile {file}")
        log(f"warning: {file} has more than one name, nginx serves those in media (all names, on the host: {command})")


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


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Let one start at a time open and migrate an SQLite database; other containers on the same folder wait here.

    SQLite's own locks are not enough: of two starts on an empty file the second ended with "table already exists", or
    with "database is locked" where both switched to WAL. The lock is a file beside the database, so that it holds for
    whatever shares the database; it ends with this process. Raises Final if the file cannot be made.
    """
    file = file_of(connection.settings_dict)
    if not file:
        yield
        return
    with contextlib.ExitStack() as closing:
        try:
            # Not through a link, which whoever broke in may have left.
            lock = os.open(f"{file}.lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o660)
            closing.callback(os.close, lock)
            with contextlib.suppress(PermissionError):
                os.fchmod(lock, 0o660)  # whatever the umask
            wait_for_lock(lock)
        except PermissionError:
            raise Final(CANNOT_CREATE, [not_writable(Path(f"{file}.lock"))]) from None
        except OSError as reason:
            # A full disk, or a network file system without locks.
            log(f"warning: {file}.lock cannot be locked ({reason.strerror}): start one container at a time")
        yield


def wait_for_lock(lock: int) -> None:
    """Lock the file of this descriptor, and log if another start holds it. Raises OSError."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        log(WAITING)
        phase.write(WAITING)
        fcntl.flock(lock, fcntl.LOCK_EX)
        phase.write("")
