"""Asking a program of the container on its Unix socket: nginx for a sign of life, uWSGI for its statistics."""

import socket
import time

# A plain string, as it is used here only: pathlib would make the health check, which runs every ten seconds, a third
# slower.
HEALTH = "/run/health.sock"
# seconds, below HEALTHCHECK's own five
PATIENCE = 4.5


def ask(path: str, request: bytes = b"", *, patience: float = PATIENCE) -> bytes:
    """What the socket answers until it closes, within `patience` seconds in all. Raises OSError."""
    until = time.monotonic() + patience
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(patience)
        connection.connect(path)
        # Sending nothing fails, too, where the other side has answered and closed already.
        if request:
            connection.sendall(request)
        answer = b""
        while block := connection.recv(65536):
            answer += block
            connection.settimeout(max(until - time.monotonic(), 0.01))
    return answer


def get(page: str) -> tuple[int, bytes]:
    """The status and body of a page as nginx answers on its own socket. Raises OSError or ValueError."""
    head, _, body = ask(HEALTH, f"GET {page} HTTP/1.0\r\nHost: health\r\n\r\n".encode()).partition(b"\r\n\r\n")
    words = head.split(b" ", 2)
    if len(words) < 2:
        raise ValueError("it closed the connection")
    return int(words[1]), body
