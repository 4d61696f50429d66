"""The lineage, certbot's stored files of the site's certificate: whether it is good, and how it will be renewed.

A lineage is `live/NAME` (links), `archive/NAME` (every version) and `renewal/NAME.conf` (how to renew it) under
/etc/letsencrypt, and may be in any state.
"""

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import configobj
from cryptography import x509

from dockerable.certificates import clock
from dockerable.certificates.pairs import Broken, Pair, read
from dockerable.certificates.request import Request
from dockerable.container import places

# The files of a lineage, by their names in its renewal configuration.
FILES = ("cert", "privkey", "chain", "fullchain")


def live(request: Request) -> Path:
    """The folder with the links to the newest version."""
    return places.LETSENCRYPT / "live" / request.lineage


def renewal_file(request: Request) -> Path:
    """The path of the lineage's renewal configuration."""
    return places.LETSENCRYPT / "renewal" / f"{request.lineage}.conf"


def stored(request: Request) -> Pair:
    """Read the newest version of the certificate. Raises Broken."""
    folder = live(request)
    if not folder.is_dir() and not os.path.lexists(renewal_file(request)):
        raise Broken("does not exist yet")
    return Pair.read(folder / "fullchain.pem", folder / "privkey.pem")


def stored_leaf(request: Request) -> x509.Certificate | None:
    """The newest version's leaf certificate; None if it cannot be served."""
    with suppress(Broken):
        return stored(request).leaf
    return None


def renewal_configuration(request: Request) -> configobj.ConfigObj:
    """Read the lineage's renewal configuration. Raises Broken if certbot could not renew with it."""
    file = renewal_file(request)
    try:
        found = configobj.ConfigObj(str(file), encoding="utf-8", default_encoding="utf-8", file_error=True)
    except (OSError, configobj.ConfigObjError, UnicodeDecodeError) as reason:
        raise Broken(f"has a renewal configuration that cannot be read ({file}: {reason})") from None
    missing = [key for key in (*FILES, "renewalparams") if key not in found]
    if missing or not isinstance(found["renewalparams"], dict):
        raise Broken(f"has a renewal configuration without {', '.join(missing) or 'a section renewalparams'} ({file})")
    # certbot refuses a lineage that was copied without its links or to another folder.
    folder = live(request)
    for key in FILES:
        link = folder / f"{key}.pem"
        if found[key] != str(link) or not link.is_symlink() or not link.exists():
            raise Broken(f"cannot be renewed: {link} is not the link that certbot made")
    certificate = read(folder / "cert.pem").strip()
    if not certificate or not read(folder / "fullchain.pem").startswith(certificate):
        raise Broken(f"cannot be renewed: {folder}/cert.pem is not the certificate of fullchain.pem")
    return found


def why_reissue(request: Request) -> str:
    """Why the stored certificate must be replaced by a new order rather than renewed; empty if it need not be."""
    try:
        pair = stored(request)
        server = renewal_configuration(request)["renewalparams"].get("server", "")
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
    # An authority may give a leaf alone: asking again would only get the same.
    if not pair.chained and pair.others:
        return "the stored certificate has the chain of another authority"
    return ""


def use_authenticator(request: Request, wanted: Mapping[str, object]) -> bool:
    """Change how the stored lineage will be renewed to `wanted` (options as certbot stores them).

    Returns whether anything was changed. Raises Broken if the configuration cannot be read.
    """
    configuration = renewal_configuration(request)
    params = configuration["renewalparams"]
    if all(params.get(key) == value for key, value in wanted.items() if isinstance(value, str)):
        return False
    params.update(wanted)
    params.pop("pref_challs", None)
    # Written atomically.
    file = renewal_file(request)
    configuration.filename = str(file.with_suffix(".new"))
    configuration.write()
    Path(configuration.filename).replace(file)
    return True


def set_aside(request: Request) -> Path | None:
    """Move a lineage that certbot cannot use to /etc/letsencrypt/broken/. Returns its new folder, None without one."""
    parts = [renewal_file(request), live(request), places.LETSENCRYPT / "archive" / request.lineage]
    there = [part for part in parts if os.path.lexists(part)]
    if not there:
        return None
    aside = places.LETSENCRYPT / "broken" / f"{request.lineage}-{clock.now():%Y%m%dT%H%M%S}"
    for part in there:
        target = aside / part.parent.name
        target.mkdir(parents=True, exist_ok=True)
        part.rename(target / part.name)
    return aside
