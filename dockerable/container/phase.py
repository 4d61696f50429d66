"""/run/phase: what the start of the application waits for, for the health check and so for `ctl up`.

The application's start writes it, and it counts only while the application is starting.
"""

# A string rather than a Path: importing pathlib would make the health check, which runs every ten seconds, a third
# slower.
PHASE = "/run/phase"


def write(words: str) -> None:
    """Write what is waited for, one line; empty if nothing is. Does nothing if /run is full: the log has the same."""
    try:
        with open(PHASE, "w", encoding="utf-8") as file:
            file.write(words)
    except OSError:
        pass


def read() -> str:
    """What is waited for; empty if it is nothing."""
    try:
        with open(PHASE, encoding="utf-8") as file:
            return file.read()
    except (OSError, ValueError):
        return ""
