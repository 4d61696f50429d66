"""Certificates: what is stored, whether it is good, what nginx is given.

nginx reads `/run/tls/current/`, a link to a folder that holds a checked pair: the stored lineage, the
mounted files of TLS_CERTIFICATE, or a temporary self-signed pair. So nothing unchecked reaches it, and
what lies in /etc/letsencrypt may be in any state.

Runs in /opt/dockerable's Python, which has `cryptography` (certbot needs it).
"""

import datetime
import itertools
import os
import socket
import ssl
import tempfile
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

import configobj
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

LETSENCRYPT = Path("/etc/letsencrypt")
TLS = Path("/run/tls")
WEBROOT = "/var/www/html"
LETS_ENCRYPT = "https://acme-v02.api.letsencrypt.org/directory"
LETS_ENCRYPT_STAGING = "https://acme-staging-v02.api.letsencrypt.org/directory"
TEMPORARY = "temporary certificate"
TEMPORARY_DAYS = 90
# The files of a lineage, as its renewal configuration calls them.
FILES = ("cert", "privkey", "chain", "fullchain")


class Broken(Exception):
    """Why a certificate cannot be served, as the end of a sentence about it."""


def now() -> datetime.datetime:
    """The time, in UTC."""
    return datetime.datetime.now(datetime.UTC)


@dataclass(frozen=True)
class Request:
    """Which certificate is wanted, from the checked environment."""

    names: tuple[str, ...]
    server: str
    own: tuple[Path, Path] | None

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> "Request":
        """From variables that environment.py has checked and completed."""
        names = tuple(name.strip("[]") for name in environ["NGINX_SERVER_NAME"].split())
        server = environ["ACME_SERVER"]
        if not server:
            server = LETS_ENCRYPT_STAGING if environ["ACME_STAGING"] == "on" else LETS_ENCRYPT
        own = None
        if environ["TLS_CERTIFICATE"]:
            own = (Path(environ["TLS_CERTIFICATE"]), Path(environ["TLS_CERTIFICATE_KEY"]))
        return cls(names, server, own)

    @property
    def lineage(self) -> str:
        """certbot's name for the certificate: the first name's, as certbot itself would choose."""
        return self.names[0].removeprefix("*.")


@dataclass(frozen=True)
class Pair:
    """A certificate chain and its key, known to belong together."""

    chain: bytes
    key: bytes
    leaf: x509.Certificate

    @classmethod
    def read(cls, chain: Path, key: Path) -> "Pair":
        """Read and check two PEM files. Raises Broken."""
        return cls.parse(read(chain), read(key))

    @classmethod
    def parse(cls, chain: bytes, key: bytes) -> "Pair":
        """Check that the chain parses and is one, and that the key is the leaf's. Raises Broken."""
        try:
            certificates = x509.load_pem_x509_certificates(chain)
            pair = cls(chain, key, certificates[0])
            # cryptography reads these only when they are asked for.
            _ = pair.names, pair.leaf.public_key(), [(one.subject, one.issuer) for one in certificates]
        except (ValueError, UnsupportedAlgorithm, x509.DuplicateExtension):
            raise Broken("does not parse: its chain is empty, truncated or no PEM") from None
        if chain.count(b"-----BEGIN CERTIFICATE-----") != len(certificates):
            raise Broken("does not parse: its chain is truncated")
        try:
            private = serialization.load_pem_private_key(key, None)
        except (ValueError, TypeError, UnsupportedAlgorithm):
            raise Broken("does not parse: its key is empty, truncated, encrypted or no PEM") from None
        if private.public_key() != pair.leaf.public_key():
            raise Broken("has a key that does not belong to it")
        for below, above in itertools.pairwise(certificates):
            if below.issuer != above.subject:
                raise Broken("has a chain in which one certificate was not issued by the next")
        return pair

    @property
    def names(self) -> tuple[str, ...]:
        """Subject alternative names, DNS names and addresses."""
        try:
            found = self.leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        except x509.ExtensionNotFound:
            return ()
        addresses = [str(address) for address in found.get_values_for_type(x509.IPAddress)]
        return (*found.get_values_for_type(x509.DNSName), *addresses)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the leaf and the key's file, in hexadecimal."""
        digest = hashes.Hash(hashes.SHA256())
        digest.update(self.chain + self.key)
        return digest.finalize().hex()

    @property
    def expired(self) -> bool:
        """Whether its last moment has passed."""
        return now() >= self.leaf.not_valid_after_utc

    @property
    def temporary(self) -> bool:
        """Whether it is one of `make_temporary`."""
        return TEMPORARY in self.leaf.subject.rfc4514_string()

    @property
    def lifetime(self) -> datetime.timedelta:
        """From its first moment to its last."""
        return self.leaf.not_valid_after_utc - self.leaf.not_valid_before_utc

    def uncovered(self, names: Iterable[str]) -> list[str]:
        """Those of `names` that the certificate does not cover."""
        return [name for name in names if not covers(self.names, name)]


def read(file: Path) -> bytes:
    """What a file holds. Raises Broken."""
    try:
        return file.read_bytes()
    except FileNotFoundError:
        raise Broken(f"is incomplete: {file} does not exist") from None
    except OSError as reason:
        raise Broken(f"cannot be read: {file}: {reason.strerror}") from None


def covers(held: Iterable[str], name: str) -> bool:
    """Whether one of the names that a certificate holds is `name`, or its wildcard."""
    wildcard = "*." + name.partition(".")[2]
    return any(one.lower() in (name, wildcard) for one in held)


def stored(request: Request) -> Pair:
    """The lineage under /etc/letsencrypt. Raises Broken."""
    live = LETSENCRYPT / "live" / request.lineage
    if not live.is_dir() and not os.path.lexists(renewal_file(request)):
        raise Broken("does not exist yet")
    return Pair.read(live / "fullchain.pem", live / "privkey.pem")


def renewal_file(request: Request) -> Path:
    """Where certbot keeps the lineage's configuration."""
    return LETSENCRYPT / "renewal" / f"{request.lineage}.conf"


def renewal(request: Request) -> configobj.ConfigObj:
    """certbot's stored configuration of the lineage, with which certbot can renew it. Raises Broken."""
    file = renewal_file(request)
    try:
        found = configobj.ConfigObj(str(file), encoding="utf-8", default_encoding="utf-8", file_error=True)
    except (OSError, configobj.ConfigObjError, UnicodeDecodeError) as reason:
        raise Broken(f"has a renewal configuration that cannot be read ({file}: {reason})") from None
    missing = [key for key in (*FILES, "renewalparams") if key not in found]
    if missing or not isinstance(found["renewalparams"], dict):
        raise Broken(f"has a renewal configuration without {', '.join(missing) or 'a section renewalparams'} ({file})")
    # What was copied without its links, or for another folder, certbot does not touch.
    live = LETSENCRYPT / "live" / request.lineage
    for key in FILES:
        link = live / f"{key}.pem"
        if found[key] != str(link) or not link.is_symlink() or not link.exists():
            raise Broken(f"cannot be renewed: {link} is not the link that certbot made")
    certificate = read(live / "cert.pem").strip()
    if not certificate or not read(live / "fullchain.pem").startswith(certificate):
        raise Broken(f"cannot be renewed: {live}/cert.pem is not the certificate of fullchain.pem")
    return found


def why_reissue(request: Request) -> str:
    """Why the stored certificate must be replaced by another, not just renewed; empty where it need not."""
    try:
        pair = stored(request)
        server = renewal(request)["renewalparams"].get("server", "")
    except Broken as reason:
        return f"the stored certificate {reason}"
    if missing := pair.uncovered(request.names):
        return f"the stored certificate does not cover {', '.join(missing)}"
    if extra := sorted(set(pair.names) - set(request.names)):
        return f"the stored certificate covers {', '.join(extra)}, no name of this site"
    if server != request.server:
        return f"the stored certificate is of {server or 'an unknown server'}, wanted is one of {request.server}"
    if pair.expired:
        return "the stored certificate has expired"
    return ""


def use_authenticator(request: Request, wanted: Mapping[str, object]) -> bool:
    """Have a stored lineage renewed as `wanted` (certbot's stored options), without a new certificate.

    Returns whether anything was changed. Raises Broken where the configuration cannot be read.
    """
    configuration = renewal(request)
    params = configuration["renewalparams"]
    if all(params.get(key) == value for key, value in wanted.items() if isinstance(value, str)):
        return False
    params.update(wanted)
    params.pop("pref_challs", None)
    # Whole or not at all.
    file = renewal_file(request)
    configuration.filename = str(file.with_suffix(".new"))
    configuration.write()
    Path(configuration.filename).replace(file)
    return True


def set_aside(request: Request) -> Path | None:
    """Move a lineage that certbot cannot use to /etc/letsencrypt/broken/; where to, None when there was none."""
    parts = [
        renewal_file(request),
        LETSENCRYPT / "live" / request.lineage,
        LETSENCRYPT / "archive" / request.lineage,
    ]
    there = [part for part in parts if os.path.lexists(part)]
    if not there:
        return None
    aside = LETSENCRYPT / "broken" / f"{request.lineage}-{now():%Y%m%dT%H%M%S}"
    for part in there:
        target = aside / part.parent.name
        target.mkdir(parents=True, exist_ok=True)
        part.rename(target / part.name)
    return aside


def make_temporary(request: Request) -> Pair:
    """A self-signed pair for all names, until there is a real one."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, TEMPORARY)])
    begin = now() - datetime.timedelta(hours=1)
    names: list[x509.GeneralName] = []
    for name in request.names:
        try:
            names.append(x509.IPAddress(ip_address(name)))
        except ValueError:
            names.append(x509.DNSName(name))
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(begin + datetime.timedelta(days=TEMPORARY_DAYS))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(key, hashes.SHA256())
    )
    return Pair(
        certificate.public_bytes(serialization.Encoding.PEM),
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()),
        certificate,
    )


def in_use() -> Pair | None:
    """What nginx was given."""
    try:
        return Pair.read(TLS / "current/fullchain.pem", TLS / "current/privkey.pem")
    except Broken:
        return None


def spares() -> list[Pair]:
    """What else could be served: what nginx has, other lineages, those set aside."""
    found = [current] if (current := in_use()) else []
    for chain in [*LETSENCRYPT.glob("live/*/fullchain.pem"), *LETSENCRYPT.glob("broken/*/live/*/fullchain.pem")]:
        with suppress(Broken):
            found.append(Pair.read(chain, chain.with_name("privkey.pem")))
    return [pair for pair in found if not pair.temporary and not pair.expired]


def best(request: Request) -> tuple[Pair, str]:
    """What nginx should be given, and what is wrong with what it should rather have been given.

    A stored certificate that covers none of the names, or cannot be read, is not served; one that has expired
    or covers some of them is better than a temporary one, and so is any other that is good.
    """
    problem = ""
    try:
        pair = Pair.read(*request.own) if request.own else stored(request)
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
    return make_temporary(request), problem


def install(pair: Pair) -> bool:
    """Give a pair to nginx's next start or reload. Returns whether it is another than before."""
    current = in_use()
    if current and current.fingerprint == pair.fingerprint:
        return False
    TLS.mkdir(mode=0o770, exist_ok=True)
    folder = TLS / pair.fingerprint[:16]
    folder.mkdir(mode=0o770, exist_ok=True)
    for name, content in (("fullchain.pem", pair.chain), ("privkey.pem", pair.key)):
        with tempfile.NamedTemporaryFile(dir=folder, delete=False) as file:
            file.write(content)
        Path(file.name).rename(folder / name)
    # Its own name: certbot's deploy hook may do the same at this moment.
    link = TLS / f"new-{os.getpid()}"
    link.unlink(missing_ok=True)
    link.symlink_to(folder.name)
    link.rename(TLS / "current")
    return True


def served(request: Request) -> x509.Certificate | None:
    """What nginx answers with for the first name, None where it does not."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    name = request.names[0].replace("*", "any", 1)
    try:
        with (
            socket.create_connection(("127.0.0.1", 8443), timeout=3) as plain,
            context.wrap_socket(plain, server_hostname=name) as connection,
        ):
            der = connection.getpeercert(binary_form=True)
    except OSError:
        return None
    return x509.load_der_x509_certificate(der) if der else None
