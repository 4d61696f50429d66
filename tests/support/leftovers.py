"""What tests that use the engine must not leave behind."""

from collections.abc import Iterator

import pytest

from tests.support.docker import LABEL, docker


@pytest.fixture(scope="session", autouse=True)
def nothing_left_behind() -> Iterator[None]:
    """No container, network or volume of the tests survives them."""
    yield
    left = docker("ps", "-aq", "--filter", f"label={LABEL}").split()
    left += docker("volume", "ls", "-q", "--filter", f"label={LABEL}").split()
    left += docker("network", "ls", "-q", "--filter", f"label={LABEL}").split()
    assert not left, f"left behind: {left}"
