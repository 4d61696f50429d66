"""Checks whether a syslog listens at an address, by connecting as Docker would.

Usage: python3 -m dockerable.cli.check_syslog ADDRESS [PATH]
       PATH: where this container has the socket of a unix or unixgram address
Exits: 0 it listens, or that cannot be known (udp); 69 it does not, and the reason is printed
"""

import socket
import sys
from urllib.parse import urlsplit

from dockerable.container.exit_status import UNAVAILABLE

TIMEOUT = 5  # seconds


def reach(address: str, path: str = "") -> None:
    """Connect and close the connection. Raises OSError."""
    parts = urlsplit(address)
    if parts.scheme in ("unix", "unixgram"):
        kind = socket.SOCK_STREAM if parts.scheme == "unix" else socket.SOCK_DGRAM
        with socket.socket(socket.AF_UNIX, kind) as probe:
            probe.settimeout(TIMEOUT)
            probe.connect(path or parts.path)
    elif parts.scheme in ("tcp", "tcp+tls"):
        socket.create_connection((parts.hostname or "localhost", parts.port or 514), TIMEOUT).close()


def main(arguments: list[str]) -> int:
    """Connect; print the reason if that fails. Returns the exit status."""
    try:
        reach(*arguments)
    except OSError as error:
        print(error.strerror or error)
        return UNAVAILABLE
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
