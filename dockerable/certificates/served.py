"""Chooses the best pair, gives it to nginx, and finds out which certificate nginx serves.

nginx reads `/run/tls/current/`, a link to a folder with a checked pair: the stored lineage, the mounted files of
TLS_CERTIFICATE, or a temporary self-signed pair. So nginx never gets an unchecked pair.
"""

import os
import socket
import ssl
import tempfile
from contextlib import suppress
from pathlib import Path

from cryptography import x509

from dockerable.certificates import lineage
from dockerable.certificates.pairs import Broken, Pair, make_temporary
from dockerable.certificates.request import Request
from dockerable.container import places

# nginx's TLS port in the container, and the seconds that nginx may take to answer.
PORT, PATIENCE = 8443, 3


def in_use() -> Pair | None:
    """The pair that nginx was given; None if there is none that can be read."""
    try:
        return Pair.read(places.TLS / "current/fullchain.pem", places.TLS / "current/privkey.pem")
    except Broken:
        return None


def spares() -> list[Pair]:
    """Pairs that could replace an unusable one: nginx's current pair, other lineages, and lineages set aside."""
    found = [current] if (current := in_use()) else []
    folder = places.LETSENCRYPT
    for chain in [*folder.glob("live/*/fullchain.pem"), *folder.glob("broken/*/live/*/fullchain.pem")]:
        with suppress(Broken):
            found.append(Pair.read(chain, chain.with_name("privkey.pem")))
    return [pair for pair in found if not pair.temporary and not pair.expired]


def best(request: Request) -> tuple[Pair, str]:
    """The pair that nginx should get, and why it is not the stored or mounted one (empty if it is).

    A stored certificate that cannot be read or covers none of the names is not used. One that has expired or covers
    only some names is better than a temporary one, and so is any spare one that covers some names.
    """
    problem = ""
    try:
        pair = Pair.read(*request.own) if request.own else lineage.stored(request)
        missing = pair.uncovered(request.names)
        if not request.own and len(missing) == len(request.names):
            raise Broken(f"covers none of {', '.join(request.names)}")
        return pair, ""
    except Broken as reason:
        problem = str(reason)
    current = in_use()
    if current and request.own:
        return current, problem
    useful = [pair for pair in spares() if len(pair.uncovered(request.names)) < len(request.names)]
    if useful:
        lasting = sorted(useful, key=lambda pair: pair.leaf.not_valid_after_utc, reverse=True)
        return min(lasting, key=lambda pair: len(pair.uncovered(request.names))), problem
    if current and current.temporary and not current.uncovered(request.names):
        return current, problem
    return make_temporary(request.names), problem


def install(pair: Pair) -> bool:
    """Install a pair for nginx's next start or reload. Returns whether the pair has changed."""
    current = in_use()
    if current and current.fingerprint == pair.fingerprint:
        return False
    places.TLS.mkdir(mode=0o770, exist_ok=True)
    folder = places.TLS / pair.fingerprint[:16]
    folder.mkdir(mode=0o770, exist_ok=True)
    for name, content in (("fullchain.pem", pair.chain), ("privkey.pem", pair.key)):
        with tempfile.NamedTemporaryFile(dir=folder, delete=False) as file:
            file.write(content)
        Path(file.name).rename(folder / name)
    # A name of its own: certbot's deploy hook may do the same at this moment.
    link = places.TLS / f"new-{os.getpid()}"
    link.unlink(missing_ok=True)
    link.symlink_to(folder.name)
    link.rename(places.TLS / "current")
    return True


def ask_nginx(request: Request) -> x509.Certificate | None:
    """The certificate that nginx serves for the first name; None if nginx does not answer."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    name = request.names[0].replace("*", "any", 1)
    try:
        with (
            socket.create_connection(("127.0.0.1", PORT), PATIENCE) as plain,
            context.wrap_socket(plain, server_hostname=name) as connection,
        ):
            der = connection.getpeercert(binary_form=True)
    except OSError:
        return None
    return x509.load_der_x509_certificate(der) if der else None
