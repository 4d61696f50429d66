"""A site over HTTPS without a container: its checked variables, and the certificate that they ask for."""

from dockerable.certificates.request import Request
from dockerable.container import environment

NAMES = ("example.test", "www.example.test")


def values(**given: str) -> dict[str, str]:
    """The checked variables of a site over HTTPS."""
    report = environment.Report()
    site = {"NGINX_SERVER_NAME": " ".join(NAMES), "USE_SSL": "on", "EMAIL_ADDRESS": "a@example.test"}
    settings = {"DJANGO_SETTINGS_MODULE": "project.settings.local.settings"}
    environment.check_variables({**settings, **site, **given}, report)
    assert not report.errors
    return report.values


def wanted(**given: str) -> Request:
    """The certificate that such a site wants."""
    return Request.of(values(**given))
