"""The certificate program's log lines: tag, level, and the stream that each command writes them to."""

import logging
import sys

log = logging.getLogger("certificate")


class Lines(logging.Formatter):
    """Formats a record as one line: tag, level unless it is info, message."""

    def __init__(self, tag: str) -> None:
        super().__init__()
        self.tag = tag

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its end."""
        level = f"{record.levelname.lower()}: " if record.levelno > logging.INFO else ""
        return f"{self.tag}{level}{record.getMessage()}"


def start_log(arguments: list[str]) -> None:
    """Set up logging for the command `arguments`."""
    # `status` and `renew` print the status to stdout, so they log to stderr. All others log to stdout: certbot reports
    # an error if its hook (`install`) writes to stderr.
    handler = logging.StreamHandler(sys.stderr if arguments[:1] in (["status"], ["renew"]) else sys.stdout)
    # Lines that go to PID 1's FIFO get their tag from PID 1.
    handler.setFormatter(Lines("" if arguments in ([], ["install"]) else "certificate: "))
    log.handlers = [handler]
    log.setLevel(logging.INFO)
    log.propagate = False
