"""Chooses the best pair, gives it to nginx, and finds out which certificate nginx serves.

nginx reads `/run/tls/current/`, a link to a folder with a checked pair: the stored lineage, the mounted files of
TLS_CERTIFICATE, or a temporary self-signed pair. Only a pair that nginx accepts becomes current: one that it refused
would end the site at nginx's next start.
"""

import os
import socket
import ssl
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from cryptography import x509

from dockerable.certificates import lineage
from dockerable.certificates.pairs import Broken, Pair, make_temporary
from dockerable.certificates.request import Request
from dockerable.container import nginx, places

# nginx's TLS port in the container, and the seconds that nginx may take to answer.
PORT, PATIENCE = 8443, 3
# Seconds after which a pair that nginx refused is tried again: the cause may have been another.
RETRY = 600
# In a pair's folder: why nginx refused the pair; and a configuration with the pair alone, for nginx's test.
REFUSED, TEST = "refused", "nginx.conf"
CONFIGURATION = """\
pid {folder}/pid;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    fastcgi_temp_path {folder}/fastcgi;
    proxy_temp_path {folder}/proxy;
    scgi_temp_path {folder}/scgi;
    uwsgi_temp_path {folder}/uwsgi;
    server {{
        listen unix:{folder}/socket ssl;
        ssl_certificate {folder}/fullchain.pem;
        ssl_certificate_key {folder}/privkey.pem;
    }}
}}
"""


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
        check(pair)
        return pair, ""
    except Broken as reason:
        problem = str(reason)
    current = in_use()
    if current and request.own:
        return current, problem
    useful = [pair for pair in spares() if len(pair.uncovered(request.names)) < len(request.names)]
    lasting = sorted(useful, key=lambda pair: pair.leaf.not_valid_after_utc, reverse=True)
    for pair in sorted(lasting, key=lambda pair: len(pair.uncovered(request.names))):
        with suppress(Broken):
            check(pair)
            return pair, problem
    if current and current.temporary and not current.uncovered(request.names):
        return current, problem
    return make_temporary(request.names), problem


def install(pair: Pair) -> bool:
    """Install a pair for nginx's next start or reload. Returns whether the pair has changed."""
    if is_in_use(pair):
        return False
    folder = write(pair)
    # A name of its own: certbot's deploy hook may do the same at this moment.
    link = places.TLS / f"new-{os.getpid()}"
    link.unlink(missing_ok=True)
    link.symlink_to(folder.name)
    link.rename(places.TLS / "current")
    return True


def is_in_use(pair: Pair) -> bool:
    """Whether nginx was given this pair."""
    current = in_use()
    return current is not None and current.fingerprint == pair.fingerprint


def folder_of(pair: Pair) -> Path:
    """Where the pair is kept for nginx."""
    return places.TLS / pair.fingerprint[:16]


def write(pair: Pair) -> Path:
    """Write a pair for nginx. Returns its folder."""
    places.TLS.mkdir(mode=0o770, exist_ok=True)
    folder = folder_of(pair)
    folder.mkdir(mode=0o770, exist_ok=True)
    test_of_it = CONFIGURATION.format(folder=folder).encode()
    for name, content in (("fullchain.pem", pair.chain), ("privkey.pem", pair.key), (TEST, test_of_it)):
        with tempfile.NamedTemporaryFile(dir=folder, delete=False) as file:
            file.write(content)
        Path(file.name).rename(folder / name)
    return folder


def check(pair: Pair) -> None:
    """Have nginx test a pair that it does not use yet. Raises Broken if nginx refuses it, or did so lately."""
    if is_in_use(pair):
        return
    if reason := refusal(pair):
        raise Broken(reason)
    if reason := nginx.refusal(write(pair) / TEST):
        refuse(pair, reason)
        raise Broken(refusal(pair))


def refuse(pair: Pair, reason: str) -> None:
    """Record that nginx refused a pair, for RETRY seconds."""
    (folder_of(pair) / REFUSED).write_text(reason)


def refusal(pair: Pair) -> str:
    """That nginx refused the pair lately, and why; empty if it did not."""
    file = folder_of(pair) / REFUSED
    with suppress(OSError):
        if time.time() - file.stat().st_mtime < RETRY:
            return f"is refused by nginx: {file.read_text()}"
    return ""


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
