"""The certificate program's log lines: their tag, their level, and which stream its commands send them to."""

import logging
import sys

log = logging.getLogger("certificate")


class Lines(logging.Formatter):
    """A record as one line: the tag, the level unless it is information, the message."""

    def __init__(self, tag: str) -> None:
        super().__init__()
        self.tag = tag

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its end."""
        level = f"{record.levelname.lower()}: " if record.levelno > logging.INFO else ""
        return f"{self.tag}{level}{record.getMessage()}"


def start_log(arguments: list[str]) -> None:
    """Send what is logged from now on to where whoever runs the command `arguments` expects it."""
    # stdout is the object for `status` and `renew`; certbot calls it an error when a hook writes to stderr.
    handler = logging.StreamHandler(sys.stderr if arguments[:1] in (["status"], ["renew"]) else sys.stdout)
    # PID 1 tags what goes to its FIFO.
    handler.setFormatter(Lines("" if arguments in ([], ["install"]) else "certificate: "))
    log.handlers = [handler]
    log.setLevel(logging.INFO)
    log.propagate = False
