"""Pairs, certificate chains with their keys: reads and checks PEM files, and makes temporary self-signed pairs."""

import datetime
import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from dockerable.certificates import clock
from dockerable.certificates.request import address

TEMPORARY = "temporary certificate"
TEMPORARY_DAYS = 90


class Broken(Exception):
    """A certificate cannot be used. The text follows the certificate's name in a message: "has a key that ..."."""


@dataclass(frozen=True)
class Pair:
    """A certificate chain and its key, checked to belong together."""

    chain: bytes
    key: bytes
    leaf: x509.Certificate

    @classmethod
    def read(cls, chain: Path, key: Path) -> "Pair":
        """Read and check two PEM files. Raises Broken."""
        return cls.parse(read(chain), read(key))

    @classmethod
    def parse(cls, chain: bytes, key: bytes) -> "Pair":
        """Check that each certificate is issued by the next, and that the key is the leaf's. Raises Broken."""
        try:
            certificates = x509.load_pem_x509_certificates(chain)
            pair = cls(chain, key, certificates[0])
            # cryptography parses these only on access, so errors in them show here.
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
        """The names in the leaf certificate."""
        return names_of(self.leaf)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the chain and the key as their files hold them, in hexadecimal."""
        digest = hashes.Hash(hashes.SHA256())
        digest.update(self.chain + self.key)
        return digest.finalize().hex()

    @property
    def expired(self) -> bool:
        """Whether the leaf certificate has expired."""
        return has_expired(self.leaf)

    @property
    def temporary(self) -> bool:
        """Whether `make_temporary` made the pair."""
        return is_temporary(self.leaf)

    @property
    def lifetime(self) -> datetime.timedelta:
        """The time from the leaf certificate's begin to its end."""
        return self.leaf.not_valid_after_utc - self.leaf.not_valid_before_utc

    def uncovered(self, names: Iterable[str]) -> list[str]:
        """Those of `names` that the certificate does not cover."""
        return [name for name in names if not covers(self.names, name)]


def names_of(leaf: x509.Certificate) -> tuple[str, ...]:
    """A certificate's subject alternative names: DNS names, then addresses."""
    try:
        found = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    addresses = [str(ip) for ip in found.get_values_for_type(x509.IPAddress)]
    return (*found.get_values_for_type(x509.DNSName), *addresses)


def issuer_of(leaf: x509.Certificate) -> str:
    """A certificate's issuer as an RFC 4514 string, without backslashes."""
    return leaf.issuer.rfc4514_string().replace("\\", "")


def has_expired(leaf: x509.Certificate) -> bool:
    """Whether a certificate has expired."""
    return clock.now() >= leaf.not_valid_after_utc


def is_temporary(leaf: x509.Certificate) -> bool:
    """Whether `make_temporary` made the certificate."""
    return TEMPORARY in leaf.subject.rfc4514_string()


def read(file: Path) -> bytes:
    """A file's content. Raises Broken."""
    try:
        return file.read_bytes()
    except FileNotFoundError:
        raise Broken(f"is incomplete: {file} does not exist") from None
    except OSError as reason:
        raise Broken(f"cannot be read: {file}: {reason.strerror}") from None


def covers(held: Iterable[str], name: str) -> bool:
    """Whether one of a certificate's names is `name` or the wildcard that matches it."""
    wildcard = "*." + name.partition(".")[2]
    return any(one.lower() in (name, wildcard) for one in held)


def make_temporary(names: Iterable[str]) -> Pair:
    """Make a self-signed pair for all names, to be served until there is a certificate from an authority."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, TEMPORARY)])
    begin = clock.now() - datetime.timedelta(hours=1)
    alternatives = [x509.IPAddress(ip) if (ip := address(name)) else x509.DNSName(name) for name in names]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(begin + datetime.timedelta(days=TEMPORARY_DAYS))
        .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        .sign(key, hashes.SHA256())
    )
    return Pair(
        certificate.public_bytes(serialization.Encoding.PEM),
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()),
        certificate,
    )
