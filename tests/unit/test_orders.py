"""certbot's arguments, and the meaning of its output."""

import pytest

from dockerable.certificates import orders
from tests.support.certificates import values, wanted

# As certbot 5.8 prints it.
REJECTED = """\
Saving debug log to /var/log/letsencrypt/letsencrypt.log
Account registered.
Requesting a certificate for example.test and missing.test

Certbot failed to authenticate some domains (authenticator: webroot). The Certificate Authority reported these problems:
  Identifier: missing.test
  Type:   connection
  Detail: Could not resolve missing.test

Hint: The Certificate Authority failed to download the temporary challenge files created by Certbot.

Some challenges have failed.
Ask for help or search for solutions at https://community.letsencrypt.org.
"""


def command(**given: str) -> str:
    return " ".join(orders.issue_command(wanted(**given), values(**given)))


def test_the_reason_is_what_the_authority_said() -> None:
    assert orders.reason(REJECTED) == (
        "Identifier: missing.test; Type: connection; Detail: Could not resolve missing.test"
    )
    assert orders.reason("Saving debug log to x\n\n") == "certbot gave no reason"
    assert len(orders.reason("x" * 10_000)) == 500


@pytest.mark.parametrize(
    "text",
    [
        "urn:ietf:params:acme:error:accountDoesNotExist :: The request specified an account that does not exist",
        'Account "https://ca/my-account/1" not found',
        "Account at /etc/letsencrypt/accounts/ca/dir/5f does not exist",
    ],
)
def test_a_lost_account_is_recognised(text: str) -> None:
    assert orders.account_is_lost(text)
    assert not orders.account_is_lost(REJECTED)


def test_certbot_is_told_names_account_and_webroot() -> None:
    told = command()
    assert "--cert-name example.test --server https://acme-v02.api.letsencrypt.org/directory" in told
    assert "--authenticator webroot --webroot-path /var/www/html" in told
    assert "--domain example.test --domain www.example.test" in told
    assert "--email a@example.test" in told
    assert "--register-unsafely-without-email" in command(EMAIL_ADDRESS="")


def test_profile_addresses_and_dns_are_passed_on() -> None:
    address = command(NGINX_SERVER_NAME="192.0.2.1 [2001:db8::1]", ACME_PROFILE="shortlived")
    assert "--required-profile shortlived" in address
    assert "--ip-address 192.0.2.1 --ip-address 2001:db8::1" in address
    dns = command(
        NGINX_SERVER_NAME="*.example.test",
        ACME_DNS_PLUGIN="cloudflare",
        ACME_DNS_CREDENTIALS="/run/secrets/dns",
        ACME_DNS_PROPAGATION_SECONDS="20",
    )
    assert "--cert-name example.test" in dns
    assert "--authenticator dns-cloudflare --dns-cloudflare-credentials /run/secrets/dns" in dns
    assert "--dns-cloudflare-propagation-seconds 20" in dns
    assert "webroot" not in dns


def test_a_renewal_is_forced_only_where_it_is_asked_for() -> None:
    request = wanted()
    assert "--force-renewal" not in orders.renew_command(request)
    assert orders.renew_command(request, now=True)[-1] == "--force-renewal"
