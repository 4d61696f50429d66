"""Chains and keys as people leave them: mended where OpenSSL, and so nginx, would not read them, or refused."""

import base64
import datetime
import textwrap
from collections.abc import Callable

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes
from cryptography.x509.oid import NameOID

from dockerable.certificates import openssl, pairs
from dockerable.certificates.pairs import Broken, Pair
from tests.support.acme import key_pem, pem, self_made

Edit = Callable[[bytes], bytes]
ROOT = self_made(["a root"], authority=True)
MIDDLE = self_made(["an intermediate"], authority=True, issuer=ROOT)
LEAF, LEAF_KEY = self_made(["example.test"], issuer=MIDDLE)
GOOD, KEY = pem(LEAF) + pem(MIDDLE[0]), key_pem(LEAF_KEY)
P256 = ec.generate_private_key(ec.SECP256R1())
RSA = rsa.generate_private_key(65537, 2048)


def certificate(
    key: CertificateIssuerPrivateKeyTypes, by: CertificateIssuerPrivateKeyTypes, subject: str = "example.test"
) -> bytes:
    """A certificate for a key of any kind, issued with another by CN=an issuer; PEM."""
    now = datetime.datetime.now(datetime.UTC)
    names = [x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]) for name in (subject, "an issuer")]
    builder = x509.CertificateBuilder().subject_name(names[0]).issuer_name(names[1]).public_key(key.public_key())
    builder = builder.serial_number(x509.random_serial_number())
    builder = builder.not_valid_before(now).not_valid_after(now + datetime.timedelta(days=9))
    return pem(builder.sign(by, None if isinstance(by, ed25519.Ed25519PrivateKey) else hashes.SHA256()))


def private(
    key: CertificateIssuerPrivateKeyTypes, form: serialization.PrivateFormat = serialization.PrivateFormat.PKCS8
) -> bytes:
    """A key of any kind as PEM."""
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())


def signed_with(oid: str, chain: bytes) -> bytes:
    """A certificate (PEM) of an RSA authority that now says of its signature to be of this kind."""
    rsa_with, sha256 = bytes.fromhex("2a864886f70d0101"), b"\x0b"
    der = x509.load_pem_x509_certificate(chain).public_bytes(serialization.Encoding.DER)
    assert der.count(rsa_with + sha256) == 2
    return pem(x509.load_der_x509_certificate(der.replace(rsa_with + sha256, rsa_with + bytes.fromhex(oid))))


def one_line(text: bytes) -> bytes:
    first, *lines, last = text.splitlines()
    return first + b"\n" + b"".join(lines) + b"\n" + last


def indented(text: bytes) -> bytes:
    return textwrap.indent(text.decode(), "  ").encode()


MENDED: dict[str, bytes] = {
    "joined without a newline": pem(LEAF).rstrip() + pem(MIDDLE[0]),
    "newlines of Windows": GOOD.replace(b"\n", b"\r\n"),
    "newlines of an old Macintosh": GOOD.replace(b"\n", b"\r"),
    "empty lines": GOOD.replace(b"\n", b"\n\n"),
    "no newline at the end": GOOD.rstrip(),
    "a byte order mark": b"\xef\xbb\xbf" + GOOD,
    "text around": b"Subject: CN=example.test\n" + pem(LEAF) + b"Bag Attributes\n  a: b\n" + pem(MIDDLE[0]) + b"end",
    "headers": GOOD.replace(b"CERTIFICATE-----\n", b"CERTIFICATE-----\nComment: x\n\n", 1),
    "indented": indented(GOOD),
    # OpenSSL leaves such a one out.
    "an indented intermediate": pem(LEAF) + indented(pem(MIDDLE[0])),
    "long lines": one_line(pem(LEAF)) + b"\n" + one_line(pem(MIDDLE[0])),
    "the old label": GOOD.replace(b"CERTIFICATE-----", b"X509 CERTIFICATE-----"),
    "the key in it": KEY + GOOD,
    "the leaf twice": pem(LEAF) + GOOD,
    "the leaf last": pem(MIDDLE[0]) + pem(LEAF),
}


@pytest.mark.parametrize("fault", MENDED)
def test_a_chain_is_written_out_in_normal_form(fault: str) -> None:
    pair = Pair.parse(MENDED[fault], KEY)
    assert (pair.chain, pair.key, pair.leaf) == (GOOD, KEY, LEAF)
    assert Pair.parse(pair.chain, pair.key) == pair


def test_what_openssl_says_of_trust_is_left_out() -> None:
    # The label of `openssl x509 -trustout`; OpenSSL's settings follow the certificate.
    trust = bytes.fromhex("300c300a06082b06010505070301")
    body = base64.encodebytes(LEAF.public_bytes(serialization.Encoding.DER) + trust)
    trusted = b"-----BEGIN TRUSTED CERTIFICATE-----\n" + body + b"-----END TRUSTED CERTIFICATE-----\n"
    assert Pair.parse(trusted + pem(MIDDLE[0]), KEY).chain == GOOD


def test_the_order_of_the_others_is_left_as_it_is() -> None:
    chain = pem(LEAF) + pem(ROOT[0]) + pem(MIDDLE[0])
    assert Pair.parse(chain, KEY).chain == chain


@pytest.mark.parametrize("edit", [indented, lambda key: key.replace(b"\n", b"\r")], ids=["indented", "Macintosh"])
def test_a_key_that_openssl_does_not_read_is_written_out_in_normal_form(edit: Edit) -> None:
    assert Pair.parse(GOOD, edit(KEY)) == Pair(GOOD, KEY, LEAF)


@pytest.mark.parametrize(
    "edit",
    [
        lambda key: key.replace(b"\n", b"\r\n"),
        lambda key: b"\xef\xbb\xbf" + key,
        lambda key: GOOD + key,
        lambda _: private(LEAF_KEY, serialization.PrivateFormat.TraditionalOpenSSL),
    ],
    ids=["Windows", "byte order mark", "the chain before it", "traditional"],
)
def test_a_key_that_openssl_reads_stays_as_it_is(edit: Edit) -> None:
    assert Pair.parse(GOOD, edit(KEY)) == Pair(GOOD, edit(KEY), LEAF)


@pytest.mark.parametrize(
    "key",
    [
        RSA,
        ec.generate_private_key(ec.SECP384R1()),
        ec.generate_private_key(ec.SECP521R1()),
        ed25519.Ed25519PrivateKey.generate(),
    ],
    ids=["RSA", "P-384", "P-521", "Ed25519"],
)
def test_every_kind_of_key_that_some_client_knows_is_taken(key: CertificateIssuerPrivateKeyTypes) -> None:
    chain = certificate(key, P256)
    assert Pair.parse(chain, private(key)).chain == chain


WEAK = rsa.generate_private_key(65537, 1024)
SMALL = "is refused by OpenSSL: its key is too small (remedy: ECDSA, or RSA with at least 2048 bits)"
UNKNOWN = "is refused by OpenSSL: clients know no such key for TLS (remedy: ECDSA with the curve P-256, or RSA)"
SECP256K1 = ec.generate_private_key(ec.SECP256K1())
INTERMEDIATE = certificate(P256, RSA, "a middle")
NO_PEM, TRUNCATED = "does not parse: its chain is empty, truncated or no PEM", "does not parse: its chain is truncated"
REFUSED: dict[str, tuple[bytes, bytes, str]] = {
    "a small key": (certificate(WEAK, P256), private(WEAK), SMALL),
    "an intermediate's small key": (
        certificate(P256, P256) + certificate(WEAK, P256, "a middle"),
        private(P256),
        "is refused by OpenSSL: the key of a certificate in its chain is too small",
    ),
    "a curve that is not for TLS": (certificate(SECP256K1, P256), private(SECP256K1), UNKNOWN),
    "SHA-1": (
        signed_with("05", certificate(P256, RSA)),
        private(P256),
        "is signed with SHA-1, which clients refuse (remedy: another one, with SHA-256)",
    ),
    "an intermediate's MD5": (
        certificate(P256, P256) + signed_with("04", INTERMEDIATE),
        private(P256),
        "has a chain in which CN=a middle is signed with MD5, which clients refuse (remedy: another one, with SHA-256)",
    ),
    "no certificate": (KEY, KEY, NO_PEM),
    "DER": (LEAF.public_bytes(serialization.Encoding.DER), KEY, NO_PEM),
    "UTF-16": (GOOD.decode().encode("utf-16"), KEY, NO_PEM),
    "a damaged one": (GOOD[:200] + b"A" + GOOD[200:], KEY, NO_PEM),
    "the end missing": (GOOD[:-20], KEY, TRUNCATED),
    "the middle missing": (pem(LEAF)[:200] + b"\n" + GOOD, KEY, TRUNCATED),
    "a key of an intermediate": (GOOD, key_pem(MIDDLE[1]), "has a key that does not belong to it"),
    "two keys": (GOOD, key_pem(MIDDLE[1]) + KEY, "has a key that does not belong to it"),
}


@pytest.mark.parametrize("fault", REFUSED)
def test_what_cannot_be_mended_is_refused_with_the_reason(fault: str) -> None:
    chain, key, said = REFUSED[fault]
    with pytest.raises(Broken) as broken:
        Pair.parse(chain, key)
    assert str(broken.value) == said


def test_an_authority_s_own_signature_may_be_weak() -> None:
    """Nobody checks it."""
    now = datetime.datetime.now(datetime.UTC)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "an issuer")])
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(RSA.public_key())
    builder = builder.serial_number(1).not_valid_before(now).not_valid_after(now + datetime.timedelta(days=9))
    root = signed_with("05", pem(builder.sign(RSA, hashes.SHA256())))
    chain = certificate(P256, RSA) + root
    assert Pair.parse(chain, private(P256)).chain == chain


@pytest.mark.parametrize(
    ("chain", "chained"),
    [
        (GOOD, True),
        (pem(LEAF) + pem(ROOT[0]) + pem(MIDDLE[0]), True),
        (pem(LEAF), False),
        (pem(LEAF) + pem(ROOT[0]), False),
        # Cut off within the BEGIN of the next.
        (GOOD[: len(pem(LEAF)) + 12], False),
    ],
)
def test_whether_the_issuer_is_in_the_chain(chain: bytes, chained: bool) -> None:
    assert Pair.parse(chain, KEY).chained is chained


def test_a_temporary_one_is_good_and_needs_no_chain() -> None:
    made = pairs.make_temporary(["example.test", "192.0.2.1", "2001:db8::1"])
    assert Pair.parse(made.chain, made.key) == made
    assert made.chained


def test_openssl_asks_no_terminal_for_a_passphrase() -> None:
    locked = LEAF_KEY.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"secret")
    )
    assert openssl.refusal(GOOD, locked) != ""
    with pytest.raises(Broken, match="its key is empty, truncated, encrypted or no PEM"):
        Pair.parse(GOOD, locked)
