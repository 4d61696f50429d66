"""/run/failure: the exit status and the reason with which PID 1 ends a container that cannot go on.

The application's start writes it if another start would not help, and supervise if it gives a program up. One line,
"STATUS REASON". If /run is full the file is made but stays empty, and the container ends all the same.
"""

from dockerable.container.places import FAILURE


def write(status: int, reason: str) -> None:
    """Write the file. Raises OSError if that fails; an empty file may be left."""
    FAILURE.write_text(f"{status} {reason}\n")


def read() -> tuple[int, str] | None:
    """Status and reason; None if there is no file. Raises OSError, and ValueError for an empty file."""
    try:
        status, _, reason = FAILURE.read_text().strip().partition(" ")
    except FileNotFoundError:
        return None
    return int(status), reason
