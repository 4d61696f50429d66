"""Asks OpenSSL, the library that nginx uses, whether a TLS server can work with a pair."""

import functools
import os
import ssl
from collections.abc import Iterator
from contextlib import contextmanager

# The kind of cipher suites in nginx/tls.conf; for TLS 1.3 there is no choice.
CIPHERS = "ECDHE+AESGCM"
# Flights that a handshake takes at most: three for TLS 1.3, four for TLS 1.2.
FLIGHTS = 5
# OpenSSL's reasons, in other words where its own do not name the remedy.
REASONS = {
    "EE_KEY_TOO_SMALL": "its key is too small (remedy: ECDSA, or RSA with at least 2048 bits)",
    "CA_KEY_TOO_SMALL": "the key of a certificate in its chain is too small",
    "NO_SHARED_CIPHER": "clients know no such key for TLS (remedy: ECDSA with the curve P-256, or RSA)",
}


@functools.lru_cache(maxsize=16)
def refusal(chain: bytes, key: bytes) -> str:
    """Why OpenSSL does not serve with a pair (PEM); empty if it does. The program asks every few seconds."""
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.set_ciphers(CIPHERS)
    try:
        with file(chain) as chain_file, file(key) as key_file:
            # The passphrase keeps OpenSSL from asking a terminal for that of an encrypted key.
            server.load_cert_chain(chain_file, key_file, "")
        shake_hands(server)
    except ssl.SSLError as error:
        return REASONS.get(error.reason, error.reason.lower().replace("_", " ")) if error.reason else str(error)
    return ""


@contextmanager
def file(content: bytes) -> Iterator[str]:
    """A file in memory, since OpenSSL wants names of files and a key must not reach a disk. Yields its path."""
    descriptor = os.memfd_create("pem")
    try:
        os.write(descriptor, content)
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)


def shake_hands(server: ssl.SSLContext) -> None:
    """Have a client that trusts everybody meet a server with this context. Raises ssl.SSLError."""
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
    # Only the server is tried.
    client.set_ciphers("ALL:@SECLEVEL=0")
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [client.wrap_bio(back, there), server.wrap_bio(there, back, server_side=True)]
    for _ in range(FLIGHTS):
        for end in ends:
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
