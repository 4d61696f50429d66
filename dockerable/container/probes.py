"""Requests to programs of the container over their Unix sockets: nginx's health check and uWSGI's statistics."""

import socket
import time

# A string rather than a Path: importing pathlib would make the health check, which runs every ten seconds, a third
# slower.
HEALTH = "/run/health.sock"
# Seconds; below the five of HEALTHCHECK in the Dockerfile.
PATIENCE = 4.5


def ask(path: str, request: bytes = b"", *, patience: float = PATIENCE) -> bytes:
    """Send `request`. Returns all that comes until the socket closes, within `patience` seconds. Raises OSError."""
    until = time.monotonic() + patience
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(patience)
        connection.connect(path)
        # Even sending no bytes fails if the other side has already answered and closed.
        if request:
            connection.sendall(request)
        answer = b""
        while block := connection.recv(65536):
            answer += block
            connection.settimeout(max(until - time.monotonic(), 0.01))
    return answer


def get(page: str, *, patience: float = PATIENCE) -> tuple[int, bytes]:
    """Request a page on nginx's health socket. Returns status and body. Raises OSError, ValueError."""
    request = f"GET {page} HTTP/1.0\r\nHost: health\r\n\r\n".encode()
    head, _, body = ask(HEALTH, request, patience=patience).partition(b"\r\n\r\n")
    words = head.split(b" ", 2)
    if len(words) < 2:
        raise ValueError("it closed the connection")
    return int(words[1]), body
