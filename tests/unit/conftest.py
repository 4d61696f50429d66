"""Fixtures that several modules share."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.certificate_host import Host, Lines, log_lines, simulated


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    """A container's places, certbot and nginx for the certificate program, in a folder of the test's."""
    with simulated(tmp_path, monkeypatch) as made:
        yield made


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> Lines:
    """What the certificate program logs."""
    return log_lines(monkeypatch)
