"""Which container orders and renews: of those that mount the same /etc/letsencrypt, one at a time.

The owner locks a file in that folder, and one of the same name in /run, by which other processes of its container know
that the owner is here. Both locks end with the last process that holds them, so an owner that is killed has none.

bin/certbot imports this module, so it must import little.
"""

import fcntl
import os
import re
from contextlib import suppress
from pathlib import Path

from dockerable.container import places

NAME = "owner.lock"


class Owner:
    """What this process has of the ownership: the locks, from the moment at which it found nobody else."""

    def __init__(self) -> None:
        self.locks: list[int] = []  # descriptors; certbot inherits them, so that it is alone even without its caller
        self.problem = ""  # why the folder cannot be locked

    def other(self) -> str:
        """Become the owner if nobody is. Returns the other container's host name; empty if the owner is in this one.

        Where nothing can be locked, as on some network file systems, this container takes itself for the owner.
        """
        if self.locks:
            return ""
        opened: list[int] = []
        try:
            opened.append(open_lock(places.LETSENCRYPT))
            fcntl.flock(opened[0], fcntl.LOCK_EX | fcntl.LOCK_NB)
            with suppress(OSError):
                write_name(opened[0])  # a full disk costs the others the name only
            places.CERTBOT.mkdir(parents=True, exist_ok=True)
            opened.append(open_lock(places.CERTBOT))
            fcntl.flock(opened[1], fcntl.LOCK_EX)
        except BlockingIOError:
            other = read_name(opened[0])
            close(opened)
            return "" if is_here() else other
        except OSError as reason:
            close(opened)
            self.problem = reason.strerror or "unknown reason"
            return ""
        self.locks, self.problem = opened, ""
        return ""


def is_here() -> bool:
    """Whether a process of this container is the owner."""
    try:
        lock = open_lock(places.CERTBOT)
    except OSError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(lock)
    return False


def open_lock(folder: Path) -> int:
    """Open the file of the lock, for any later uid of the group. Raises OSError."""
    # Not through a link, which whoever broke in may have left: the file is written.
    descriptor = os.open(folder / NAME, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o660)
    with suppress(PermissionError):
        os.fchmod(descriptor, 0o660)
    return descriptor


def write_name(descriptor: int) -> None:
    """Write this container's host name, for the messages of others. Raises OSError."""
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"{os.uname().nodename}\n".encode(), 0)


def read_name(descriptor: int) -> str:
    """The host name that the owner has written, without what could not be part of one."""
    text = os.pread(descriptor, 64, 0).decode(errors="replace")
    return re.sub(r"[^A-Za-z0-9._-]", "", text) or "unknown"


def close(descriptors: list[int]) -> None:
    """Close all, which drops their locks."""
    for descriptor in descriptors:
        os.close(descriptor)
