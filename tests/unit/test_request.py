"""Which certificate the variables ask for."""

import pytest

from dockerable.certificates import orders, request
from tests.support.certificates import values, wanted


@pytest.mark.parametrize(
    ("given", "server"),
    [
        ({}, request.LETS_ENCRYPT),
        ({"ACME_STAGING": "on"}, request.LETS_ENCRYPT_STAGING),
        ({"ACME_STAGING": "on", "ACME_SERVER": "https://ca.test/dir"}, "https://ca.test/dir"),
    ],
)
def test_the_directory_is_the_one_that_was_chosen(given: dict[str, str], server: str) -> None:
    assert wanted(**given).server == server
    assert f"--server {server} " in " ".join(orders.issue_command(wanted(**given), values(**given)))
