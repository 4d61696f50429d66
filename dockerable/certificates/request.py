"""The certificate that the site needs: its names, and the authority or the mounted files that it comes from."""

from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path

LETS_ENCRYPT = "https://acme-v02.api.letsencrypt.org/directory"
LETS_ENCRYPT_STAGING = "https://acme-staging-v02.api.letsencrypt.org/directory"


@dataclass(frozen=True)
class Request:
    """Names in the form of certificates, the ACME directory's URL, and the mounted chain and key, if any."""

    names: tuple[str, ...]
    server: str
    own: tuple[Path, Path] | None

    @classmethod
    def of(cls, values: Mapping[str, str]) -> "Request":
        """From the checked values of all variables."""
        names = tuple(name.strip("[]") for name in values["NGINX_SERVER_NAME"].split())
        server = values["ACME_SERVER"]
        if not server:
            server = LETS_ENCRYPT_STAGING if values["ACME_STAGING"] == "on" else LETS_ENCRYPT
        own = None
        if values["TLS_CERTIFICATE"]:
            own = (Path(values["TLS_CERTIFICATE"]), Path(values["TLS_CERTIFICATE_KEY"]))
        return cls(names, server, own)

    @property
    def lineage(self) -> str:
        """certbot's name for the certificate: the first name, as certbot itself would choose."""
        return self.names[0].removeprefix("*.")


def address(name: str) -> IPv4Address | IPv6Address | None:
    """A name of a request as an IP address; None if it is a DNS name."""
    try:
        return ip_address(name)
    except ValueError:
        return None
