"""/run/failure: the exit status and the reason with which PID 1 ends a container that cannot go on.

Written by the application's start where starting again would not help, and by supervise for a program that it gives
up. One line, "STATUS REASON". In a full /run the file is made but stays empty; the container ends all the same.
"""

from dockerable.container.places import FAILURE


def write(status: int, reason: str) -> None:
    """Make the file. Raises OSError where it cannot be made or cannot be filled."""
    FAILURE.write_text(f"{status} {reason}\n")


def read() -> tuple[int, str] | None:
    """Status and reason; None where the container can go on. Raises OSError, and ValueError for an empty file."""
    try:
        status, _, reason = FAILURE.read_text().strip().partition(" ")
    except FileNotFoundError:
        return None
    return int(status), reason
