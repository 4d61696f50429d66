"""Reads PEM files as people leave them, and writes their content in normal form, which every reader of PEM takes."""

import base64
import re

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

# Labels that OpenSSL takes for a certificate. What follows an END is not looked at: it may be the next BEGIN, where
# files were joined without a newline.
BEGIN = re.compile(rb"-----BEGIN (?:X509 |TRUSTED )?CERTIFICATE-----")
BLOCK = re.compile(rb"-----BEGIN ((?:X509 |TRUSTED )?)CERTIFICATE-----([^-]*)-----END \1CERTIFICATE-----")
HEADER = re.compile(rb"[^\r\n:]*:[^\r\n]*")


def certificates(text: bytes) -> list[x509.Certificate]:
    """The certificates in a text, in their order. Raises ValueError if one of them does not parse."""
    return [x509.load_der_x509_certificate(der(label, body)) for label, body in BLOCK.findall(text)]


def truncated(text: bytes) -> bool:
    """Whether a certificate begins in the text and does not end."""
    return len(BEGIN.findall(text)) != len(BLOCK.findall(text))


def der(label: bytes, body: bytes) -> bytes:
    """The certificate between BEGIN and END, as DER. Raises ValueError."""
    content = base64.b64decode(b"".join(HEADER.sub(b"", body).split()), validate=True)
    if label != b"TRUSTED ":
        return content
    # OpenSSL's settings of trust follow the certificate, whose first bytes hold its length.
    size = content[1:2] and content[1] & 0x7F
    return content[: 2 + size + int.from_bytes(content[2 : 2 + size])] if size else content


def chain(found: list[x509.Certificate]) -> bytes:
    """Certificates in normal form: PEM, one after the other."""
    return b"".join(one.public_bytes(serialization.Encoding.PEM) for one in found)


def key(private: PrivateKeyTypes) -> bytes:
    """A private key in normal form: PKCS #8 as PEM, not encrypted."""
    return private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
