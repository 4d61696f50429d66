"""HTTP over sockets, for requests that a client library would correct, and a client that sends forms like a browser."""

import contextlib
import re
import socket
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import httpx

from tests.support.stack import Stack

USER, PASSWORD = "ada", "difference-engine-1843"
FORM_TOKEN = re.compile(r'name="csrfmiddlewaretoken" value="([^"]+)"')


@dataclass(frozen=True)
class Answer:
    """One HTTP answer: status, header names in lower case in the order they came, body."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes

    def __getitem__(self, name: str) -> str:
        """The header of that name, empty where there is none."""
        return dict(self.headers).get(name.lower(), "")

    def repeated(self) -> list[str]:
        """Names of headers that came more than once, cookies aside."""
        counted = Counter(name for name, _ in self.headers if name != "set-cookie")
        return [name for name, times in counted.items() if times > 1]


def connect(stack: Stack, timeout: float = 30) -> socket.socket:
    """A TCP connection to the container; `timeout` in seconds holds for each operation."""
    return socket.create_connection(("127.0.0.1", stack.port), timeout)


def read_all(connection: socket.socket) -> bytes:
    """All bytes until the peer closes; a reset counts as that."""
    received = bytearray()
    with contextlib.suppress(ConnectionResetError):
        while block := connection.recv(1 << 20):
            received += block
    return bytes(received)


def parse(received: bytes) -> Answer:
    """The one answer that `received` holds. Raises ValueError where it holds none."""
    head, _, body = received.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = [(name.lower(), value.strip()) for name, _, value in (line.partition(":") for line in lines)]
    return Answer(int(first.split(" ")[1]), headers, body)


def exchange(stack: Stack, request: bytes) -> Answer | None:
    """Send these bytes and read until the end; None where the connection was closed without an answer."""
    with connect(stack) as connection:
        connection.sendall(request)
        received = read_all(connection)
    return parse(received) if received else None


def ask(
    stack: Stack,
    target: str = "/",
    *,
    method: str = "GET",
    host: str | None = "localhost",
    headers: str = "",
    version: str = "1.1",
) -> Answer | None:
    """Send one request unchanged; `headers` are whole lines, each with its line end."""
    lines = f"Host: {host}\r\n" if host is not None else ""
    return exchange(
        stack, f"{method} {target} HTTP/{version}\r\n{lines}{headers}Connection: close\r\n\r\n".encode("latin-1")
    )


def answer(stack: Stack, target: str = "/", **more: Any) -> Answer:
    """Like `ask`, but fails if there is no answer."""
    given = ask(stack, target, **more)
    assert given is not None, f"{target} {more}: closed without an answer"
    return given


def make_superuser(stack: Stack) -> None:
    """The user that a Browser logs in as."""
    command = ("manage", "createsuperuser", "--noinput", "--username", USER, "--email", "ada@example.com")
    stack.exec("env", f"DJANGO_SUPERUSER_PASSWORD={PASSWORD}", *command)


class Browser:
    """A client with cookies that sends forms as a browser does: with Origin, Referer and the form's own token.

    `origin` is the address that the browser believes to talk to, that of the published port by default.
    """

    def __init__(self, stack: Stack, origin: str = "", headers: Mapping[str, str] | None = None) -> None:
        self.origin = origin or f"http://127.0.0.1:{stack.port}"
        self.client = stack.client(headers={"Host": self.origin.partition("//")[2], **(headers or {})})

    def get(self, path: str) -> httpx.Response:
        return self.client.get(path)

    def submit(self, path: str, data: Mapping[str, str], *, origin: str = "", **more: Any) -> httpx.Response:
        """Open the page of a form and send it, filled in with `data`; `origin` is sent instead of our own."""
        page = self.client.get(path)
        token = FORM_TOKEN.search(page.text)
        assert token, f"{path} has no form: {page.status_code} {page.text[:300]}"
        headers = {"Origin": origin or self.origin, "Referer": f"{self.origin}{path}"}
        return self.client.post(path, data={**data, "csrfmiddlewaretoken": token[1]}, headers=headers, **more)

    def log_in(self) -> httpx.Response:
        """Log in to the admin as the user of make_superuser."""
        return self.submit("/admin/login/?next=/admin/", {"username": USER, "password": PASSWORD})
