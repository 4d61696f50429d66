"""Lineages as certbot stores them, made by the tests so that they can break them; and volumes filled with lineages."""

import shutil
from collections.abc import Iterable
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from tests.support.acme import DIRECTORY, TlsStack, key_pem, pem, self_made
from tests.support.docker import IMAGE, LABEL, docker

Authority = tuple[x509.Certificate, ec.EllipticCurvePrivateKey]
FILES = ("cert", "privkey", "chain", "fullchain")
# The renewal configuration that certbot 1.12 (Debian 11) wrote for `certonly --standalone`.
STANDALONE = """\
# renew_before_expiry = 30 days
version = 1.12.0
archive_dir = /etc/letsencrypt/archive/{name}
cert = /etc/letsencrypt/live/{name}/cert.pem
privkey = /etc/letsencrypt/live/{name}/privkey.pem
chain = /etc/letsencrypt/live/{name}/chain.pem
fullchain = /etc/letsencrypt/live/{name}/fullchain.pem

# Options used in the renewal process
[renewalparams]
account = {account}
pref_challs = http-01,
authenticator = standalone
server = {server}
"""


class Lineage:
    """One lineage under `folder`, which stands for /etc/letsencrypt."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder, self.name = folder, name
        self.live, self.archive = folder / "live" / name, folder / "archive" / name
        self.conf = folder / "renewal" / f"{name}.conf"

    def make(self, authority: Authority, names: Iterable[str] = (), *, days: float = 60) -> x509.Certificate:
        """Write its files for `names` (default: its own), valid for so many days, under `authority`."""
        leaf, key = self_made(list(names) or [self.name], issuer=authority, days=days)
        for folder in (self.live, self.archive, self.conf.parent):
            folder.mkdir(parents=True)
        chain = pem(authority[0])
        for kind, content in zip(FILES, (pem(leaf), key_pem(key), chain, pem(leaf) + chain), strict=True):
            (self.archive / f"{kind}1.pem").write_bytes(content)
            (self.live / f"{kind}.pem").symlink_to(f"../../archive/{self.name}/{kind}1.pem")
        self.conf.write_text(STANDALONE.format(name=self.name, account="0" * 32, server=DIRECTORY))
        return leaf

    def file(self, kind: str) -> Path:
        """The archive's file of that kind."""
        return self.archive / f"{kind}1.pem"

    def cut(self, kind: str, part: float) -> None:
        """Leave only the beginning of a file: 0 empties it."""
        content = self.file(kind).read_bytes()
        self.file(kind).write_bytes(content[: int(len(content) * part)])

    def copy_links(self) -> None:
        """Replace the links by files, as a copy that follows links does."""
        for kind in FILES:
            link = self.live / f"{kind}.pem"
            link.unlink()
            shutil.copy(self.file(kind), link)


def fill(stack: TlsStack, folder: Path, rights: str = "chown -R 10001:0 . && chmod -R u=rwX,g=rwX,o= .") -> None:
    """Put a folder's content into the letsencrypt volume of a stack that does not run yet; then set the rights."""
    docker("volume", "create", "--label", LABEL, stack.letsencrypt)
    docker(
        *("run", "--rm", "--label", LABEL, "-u", "0", "-v", f"{stack.letsencrypt}:/etc/letsencrypt"),
        *("-v", f"{folder}:/from:ro", "-w", "/etc/letsencrypt"),
        *(IMAGE, "sh", "-ec", f"cp -dR /from/. . ; {rights}"),
    )


def clone(stack: TlsStack, volume: str, change: str = ":") -> None:
    """Give a stack that does not run yet what another's letsencrypt volume holds; then change it by a shell script."""
    docker("volume", "create", "--label", LABEL, stack.letsencrypt)
    docker(
        *("run", "--rm", "--label", LABEL, "-u", "0", "-v", f"{volume}:/from:ro"),
        *("-v", f"{stack.letsencrypt}:/etc/letsencrypt", "-w", "/etc/letsencrypt"),
        *(IMAGE, "sh", "-ec", f"cp -a /from/. . ; {change}"),
    )
