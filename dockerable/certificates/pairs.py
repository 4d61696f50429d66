"""Pairs, certificate chains with their keys: reads and checks PEM files, and makes temporary self-signed pairs."""

import datetime
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.x509.oid import NameOID, SignatureAlgorithmOID

from dockerable.certificates import clock, openssl, pem
from dockerable.certificates.request import address

TEMPORARY = "temporary certificate"
TEMPORARY_DAYS = 90
# nginx takes such signatures, and no client does.
WEAK_HASHES = {
    SignatureAlgorithmOID.RSA_WITH_MD5: "MD5",
    SignatureAlgorithmOID.RSA_WITH_SHA1: "SHA-1",
    SignatureAlgorithmOID.DSA_WITH_SHA1: "SHA-1",
    SignatureAlgorithmOID.ECDSA_WITH_SHA1: "SHA-1",
}


class Broken(Exception):
    """A certificate cannot be used. The text follows the certificate's name in a message: "has a key that ..."."""


@dataclass(frozen=True)
class Pair:
    """A certificate chain and its key in normal form (PEM), checked to belong together and to be taken by OpenSSL."""

    chain: bytes
    key: bytes
    leaf: x509.Certificate

    @classmethod
    def read(cls, chain: Path, key: Path) -> "Pair":
        """Read and check two PEM files. Raises Broken."""
        return cls.parse(read(chain), read(key))

    @classmethod
    def parse(cls, chain: bytes, key: bytes) -> "Pair":
        """Check two files' contents, and bring them into normal form. Raises Broken.

        The leaf is the certificate that belongs to the key; it is put first, and what is there twice is left out. The
        others are left in their order, which clients do not mind.
        """
        certificates = parse_chain(chain)
        private = parse_key(key)
        leaf = find_leaf(certificates, private)
        certificates = [*dict.fromkeys([leaf, *certificates])]
        for one in certificates:
            if one.subject != one.issuer and (weak := weak_signature(one)):
                which = "is" if one == leaf else f"has a chain in which {name_of(one.subject)} is"
                raise Broken(f"{which} signed with {weak}, which clients refuse (remedy: another one, with SHA-256)")
        # The key stays as it is where OpenSSL takes it: its normal form does not say that it is for RSA-PSS alone.
        for form in (key, pem.key(private)):
            pair = cls(pem.chain(certificates), form, leaf)
            if not (reason := openssl.refusal(pair.chain, pair.key)):
                return pair
        raise Broken(f"is refused by OpenSSL: {reason}")

    @property
    def names(self) -> tuple[str, ...]:
        """The names in the leaf certificate."""
        return names_of(self.leaf)

    @property
    def others(self) -> list[x509.Certificate]:
        """The chain without the leaf."""
        return x509.load_pem_x509_certificates(self.chain)[1:]

    @property
    def chained(self) -> bool:
        """Whether the leaf certificate's issuer is in the chain, or the leaf is its own issuer."""
        return self.leaf.issuer in [one.subject for one in (self.leaf, *self.others)]

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the chain and the key as nginx gets them, in hexadecimal."""
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


def parse_chain(chain: bytes) -> list[x509.Certificate]:
    """The certificates of a file, at least one. Raises Broken."""
    try:
        certificates = pem.certificates(chain)
        if not certificates:
            raise ValueError
        # cryptography parses these only on access, so errors in them show here.
        _ = names_of(certificates[0]), [(one.subject, one.issuer) for one in certificates]
    except (ValueError, UnsupportedAlgorithm, x509.DuplicateExtension):
        raise Broken("does not parse: its chain is empty, truncated or no PEM") from None
    if pem.truncated(chain):
        raise Broken("does not parse: its chain is truncated")
    return certificates


def parse_key(key: bytes) -> PrivateKeyTypes:
    """The private key of a file. Raises Broken."""
    try:
        return serialization.load_pem_private_key(key, None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise Broken("does not parse: its key is empty, truncated, encrypted or no PEM") from None


def find_leaf(certificates: list[x509.Certificate], private: PrivateKeyTypes) -> x509.Certificate:
    """The certificate that belongs to the key: the first, or a later one that is no authority's. Raises Broken."""
    public = private.public_key()
    with suppress(ValueError, UnsupportedAlgorithm, x509.DuplicateExtension):
        for one in certificates:
            if one.public_key() == public and (one == certificates[0] or not is_authority(one)):
                _ = names_of(one)
                return one
    raise Broken("has a key that does not belong to it")


def is_authority(certificate: x509.Certificate) -> bool:
    """Whether a certificate may issue others."""
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False


def weak_signature(certificate: x509.Certificate) -> str:
    """The hash of a certificate's signature if clients refuse it, else empty."""
    return WEAK_HASHES.get(certificate.signature_algorithm_oid, "")


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
    return name_of(leaf.issuer)


def name_of(name: x509.Name) -> str:
    """A subject or issuer as an RFC 4514 string, without backslashes."""
    return name.rfc4514_string().replace("\\", "")


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
    return Pair(pem.chain([certificate]), pem.key(key), certificate)
