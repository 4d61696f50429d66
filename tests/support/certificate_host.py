"""What the certificate program finds around it, in a folder: stored lineages, a certbot, an nginx."""

import io
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography import x509

from dockerable.certificates import log, orders, program, served
from dockerable.certificates.program import Program
from dockerable.container import nginx, places
from tests.support.acme import DIRECTORY
from tests.support.certificates import made_up, values, wanted, write

Lines = Callable[[], list[str]]
# Instead of certbot: notes its arguments, then fails with what is in `refusal`, or stores what is in `next`.
CERTBOT = """\
#!/bin/sh
echo "$*" >>{place}/calls
if [ -e {place}/refusal ]; then cat {place}/refusal; exit 1; fi
if [ -e {place}/next ]; then rm -rf {stored}/live {stored}/archive {stored}/renewal; cp -a {place}/next/. {stored}; fi
"""


@dataclass
class Host:
    """What the program finds around it, in a folder: the stored lineage, what certbot will do, what nginx does."""

    place: Path
    reloads: int = 0
    refuses: str = ""
    serves: x509.Certificate | None = None

    def calls(self) -> list[str]:
        """What certbot was called with."""
        file = self.place / "calls"
        return file.read_text().splitlines() if file.exists() else []

    def program(self, **given: str) -> Program:
        """The program of a site that asks Pebble."""
        given = {"ACME_SERVER": DIRECTORY, **given}
        return Program(wanted(**given), values(**given))

    def test(self, _: Path) -> str:
        """What nginx says of a pair that it does not use yet."""
        return self.refuses

    def reload(self) -> str:
        """nginx serves what it was given by now."""
        self.reloads += 1
        pair = served.in_use()
        self.serves = pair.leaf if pair else None
        return ""

    def own(self, **files: bytes) -> dict[str, str]:
        """The variables of an own certificate, which is good but for the content of these files."""
        chain, key = write(made_up(), self.place / "own")
        for name, content in files.items():
            {"chain": chain, "key": key}[name].write_bytes(content)
        return {"TLS_CERTIFICATE": str(chain), "TLS_CERTIFICATE_KEY": str(key)}


@contextmanager
def simulated(place: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    """The folder in the place of the container's, a script in that of certbot, nobody in that of nginx."""
    made = Host(place)
    for name in ("LETSENCRYPT", "TLS", "CERTBOT", "WEBROOT", "CERTIFICATE_STATUS"):
        monkeypatch.setattr(places, name, place / name.lower())
    monkeypatch.setattr(places, "CERTBOT_LOG", place / "no log")
    monkeypatch.setattr(nginx, "reload", made.reload)
    monkeypatch.setattr(nginx, "refusal", made.test)
    monkeypatch.setattr(served, "ask_nginx", lambda _: made.serves)
    monkeypatch.setattr(orders, "diagnose", lambda *_: ["a finding"])
    monkeypatch.setattr(program, "SETTLING", 0)
    places.LETSENCRYPT.mkdir()
    certbot = place / "bin/certbot"
    certbot.parent.mkdir()
    certbot.write_text(CERTBOT.format(place=place, stored=places.LETSENCRYPT))
    certbot.chmod(0o755)
    monkeypatch.setenv("PATH", f"{certbot.parent}:{os.environ['PATH']}")
    mask = os.umask(0o022)
    yield made
    os.umask(mask)
    log.log.handlers.clear()


def log_lines(monkeypatch: pytest.MonkeyPatch) -> Lines:
    """Log as the supervised program does. Gives what takes the lines since they were last taken."""
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stdout", stream)
    log.start_log([])

    def take() -> list[str]:
        said = stream.getvalue().splitlines()
        stream.seek(0)
        stream.truncate()
        return said

    return take
