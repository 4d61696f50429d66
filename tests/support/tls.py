"""HTTPS requests to a container with any name, Host and TLS version, without verification; and openssl inside it."""

import contextlib
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx

from tests.support.acme import TlsStack
from tests.support.docker import run
from tests.support.http import Answer, parse, read_all
from tests.support.own_venv import programs


def context() -> ssl.SSLContext:
    """A client's context that checks nothing."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.check_hostname, made.verify_mode = False, ssl.CERT_NONE
    return made


@contextlib.contextmanager
def connected(
    stack: TlsStack, name: str | None = "", client: ssl.SSLContext | None = None, **more: Any
) -> Iterator[ssl.SSLSocket]:
    """A TLS connection that asks for `name` (default: the first; None: for none). Raises OSError."""
    wanted = stack.names[0] if name == "" else name
    with (
        socket.create_connection(("127.0.0.1", stack.https_port), timeout=10) as plain,
        (client or context()).wrap_socket(plain, server_hostname=wanted, **more) as connection,
    ):
        yield connection


def fetch(stack: TlsStack, path: str = "/", *, name: str | None = "", host: str = "") -> Answer | None:
    """GET over a connection for `name` with the Host header `host`; None where no answer comes."""
    host = host or f"{stack.names[0]}:{stack.https_port}"
    with connected(stack, name) as connection:
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
        received = read_all(connection)
    return parse(received) if received else None


def https(stack: TlsStack, **options: Any) -> httpx.Client:
    """A client of the first name; its requests need `extensions=sni(stack)`."""
    authority = f"{stack.names[0]}:{stack.https_port}"
    return httpx.Client(
        base_url=f"https://127.0.0.1:{stack.https_port}",
        headers={"Host": authority, **options.pop("headers", {})},
        verify=context(),
        trust_env=False,
        timeout=30,
        **options,
    )


def sni(stack: TlsStack) -> dict[str, str]:
    """What makes httpx ask for the first name although it connects to an address."""
    return {"sni_hostname": stack.names[0]}


def openssl(stack: TlsStack, *words: str, name: str = "") -> str:
    """What the container's own `openssl s_client WORDS…` prints of a connection for a name."""
    command = ["s_client", "-connect", "127.0.0.1:8443", "-servername", name or stack.names[0], *words]
    return stack.exec("sh", "-c", 'openssl "$@" </dev/null 2>&1', "-", *command, check=False)


def sslyze(*words: str | Path) -> str:
    """What sslyze prints."""
    return run(programs("sslyze") / "sslyze", *words, check=False).stdout
