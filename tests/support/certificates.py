"""A site over HTTPS without a container: its checked variables, the certificate that it wants, pairs for it."""

from pathlib import Path

from dockerable.certificates.pairs import Pair
from dockerable.certificates.request import Request
from dockerable.container import places, variables
from dockerable.container.report import Report
from tests.support.acme import NAMES, key_pem, pem, self_made
from tests.support.lineage import Lineage


def values(**given: str) -> dict[str, str]:
    """The checked variables of a site over HTTPS."""
    report = Report()
    site = {"NGINX_SERVER_NAME": " ".join(NAMES), "USE_SSL": "on", "EMAIL_ADDRESS": "a@example.test"}
    settings = {"DJANGO_SETTINGS_MODULE": "project.settings.local.settings"}
    variables.check({**settings, **site, **given}, report)
    assert not report.errors
    return report.values


def wanted(**given: str) -> Request:
    """The certificate that such a site wants."""
    return Request.of(values(**given))


def write(pair: Pair, folder: Path) -> tuple[Path, Path]:
    """A pair's two files in a folder, which is made: chain and key."""
    folder.mkdir(parents=True, exist_ok=True)
    chain, key = folder / "fullchain.pem", folder / "privkey.pem"
    chain.write_bytes(pair.chain)
    key.write_bytes(pair.key)
    return chain, key


def made_up(names: tuple[str, ...] = NAMES, *, days: float = 60) -> Pair:
    """A pair from an unknown authority, valid for this many days from now on."""
    authority = self_made(["an authority"], authority=True)
    leaf, key = self_made(list(names), issuer=authority, days=days)
    return Pair(pem(leaf) + pem(authority[0]), key_pem(key), leaf)


def lineage(folder: Path, names: tuple[str, ...] = NAMES, *, days: float = 60, standalone: bool = False) -> Lineage:
    """A lineage in a folder that stands for places.LETSENCRYPT, of the authority DIRECTORY, as certbot could renew it:
    by webroot, or by a listener of its own.
    """
    made = Lineage(folder, names[0])
    made.make(self_made(["an authority"], authority=True), names, days=days)
    conf = made.conf.read_text().replace("/etc/letsencrypt", str(places.LETSENCRYPT))
    if not standalone:
        conf = conf.replace("pref_challs = http-01,\nauthenticator = standalone", "authenticator = webroot")
        assert "webroot" in conf
    made.conf.write_text(conf)
    return made
