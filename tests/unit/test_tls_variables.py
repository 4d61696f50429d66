"""What the variables of HTTPS may hold, and what they need beside them: the module alone, no container."""

from pathlib import Path

import pytest

from dockerable.container import checks, variables
from dockerable.container.report import Report

GOOD = {
    "NGINX_SERVER_NAME": "www.example.com",
    "DJANGO_SETTINGS_MODULE": "project.settings.local.settings",
    "USE_SSL": "on",
}
# For each variable some values that pass; the test of injection changes each of them in every place.
PASSING = {
    "EMAIL_ADDRESS": ["", "admin@example.com", "a.b+c_d-e@mail.example.co.uk"],
    "ACME_SERVER": ["", "https://acme.example.com/directory", "https://pebble:14000/dir", "https://[::1]:14000/a?b=c"],
    "ACME_STAGING": ["on", "No", "0"],
    "ACME_PROFILE": ["", "shortlived", "tlsserver", "my-own_1"],
    "ACME_CA_BUNDLE": ["", "/run/secrets/ca.pem"],
    "ACME_EAB_KID": ["", "kid-1", "V6iRR0p3"],
    "ACME_EAB_HMAC_FILE": ["", "/run/secrets/eab"],
    "ACME_DNS_PLUGIN": ["", "cloudflare", "rfc2136"],
    "ACME_DNS_CREDENTIALS": ["", "/run/secrets/dns.ini"],
    "ACME_DNS_PROPAGATION_SECONDS": ["0", "30", "3600"],
    "TLS_CERTIFICATE": ["", "/tls/site.pem"],
    "TLS_CERTIFICATE_KEY": ["", "/tls/site-1.key"],
    "HTTPS_PORT": ["1", "443", "65535"],
    "HSTS_SECONDS": ["0", "63072000"],
    "NGINX_HTTP3": ["on", "FALSE"],
}
FAILING = {
    "EMAIL_ADDRESS": [
        "admin",
        "admin@",
        "@example.com",
        "admin@example",
        "a b@example.com",
        "a@b@example.com",
        "a@b.c;x",
    ],
    "ACME_SERVER": [
        "http://acme.example.com/directory",
        "acme.example.com",
        "https://",
        "ftp://a.test/",
        "https://a b/",
    ],
    "ACME_STAGING": ["ture", "2", " on"],
    "ACME_PROFILE": ["short lived", "a;b", "--dry-run x"],
    "ACME_CA_BUNDLE": ["ca.pem", "./ca.pem", "/a b", "~/ca.pem"],
    "ACME_EAB_KID": ["a b", "a=b", "a;b"],
    "ACME_EAB_HMAC_FILE": ["secret", "run/secrets/eab"],
    "ACME_DNS_PLUGIN": ["dns cloudflare", "a/b", "a.b"],
    "ACME_DNS_CREDENTIALS": ["dns.ini"],
    "ACME_DNS_PROPAGATION_SECONDS": ["-1", "3601", "1.5", "1e3", "030", " 30"],
    "TLS_CERTIFICATE": ["site.pem", "/a;b", "/a\nb"],
    "TLS_CERTIFICATE_KEY": ["site.key", "/a$(b)"],
    "HTTPS_PORT": ["0", "65536", "-1", "https", "0443", "4_43"],
    "HSTS_SECONDS": ["-1", "2147483648", "a year", "1.5"],
    "NGINX_HTTP3": ["enabled"],
}
CHECKED = set(variables.CONTAINER)


def check(**changes: str) -> Report:
    """The report on the variables alone."""
    report = Report()
    variables.check({**GOOD, **changes}, report)
    return report


def check_tls(folder: Path, **changes: str) -> Report:
    """The report on what HTTPS needs beside its variables, with `folder` as certbot's."""
    report = check(**changes)
    assert not report.errors
    checks.check_tls(report, folder)
    return report


def refusal(report: Report, status: int) -> str:
    """The one message of a report."""
    ((kind, message),) = report.errors
    assert (kind, report.status) == (status, status)
    return message


def test_every_variable_of_https_is_tested_here() -> None:
    names = {name for name in CHECKED if name.startswith(("ACME_", "TLS_", "HSTS_", "HTTPS_")) or "HTTP3" in name}
    assert names | {"EMAIL_ADDRESS"} == set(PASSING) == set(FAILING)


@pytest.mark.parametrize("name", PASSING)
def test_usual_values_pass(name: str) -> None:
    for value in PASSING[name]:
        assert check(**{name: value}).errors == [], value


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in FAILING.items() for value in values])
def test_others_are_refused_by_name(name: str, value: str) -> None:
    message = refusal(check(**{name: value}), 64)
    assert message.startswith(f"{name}=")
    assert "\n" not in message


@pytest.mark.parametrize("name", PASSING)
def test_no_value_can_leave_its_place(name: str) -> None:
    for value in PASSING[name]:
        for place in range(len(value) + 1):
            for bad in ";{}$\"'`\\\n\r\t\0 #|<>,":
                changed = value[:place] + bad + value[place:]
                report = check(**{name: changed})
                assert report.errors or report.values[name] == value, changed


def test_defaults_are_those_of_the_documentation() -> None:
    values = check().values
    assert (values["HTTPS_PORT"], values["HSTS_SECONDS"], values["NGINX_HTTP3"]) == ("443", "63072000", "off")
    assert (values["ACME_SERVER"], values["ACME_STAGING"], values["ACME_PROFILE"]) == ("", "off", "")


def test_one_name_is_enough(tmp_path: Path) -> None:
    assert check_tls(tmp_path).errors == []


def test_without_https_nothing_more_is_asked_for(tmp_path: Path) -> None:
    assert check_tls(tmp_path / "none", USE_SSL="off", NGINX_SERVER_NAME="*.example.com 192.0.2.7").errors == []


def test_a_wildcard_needs_dns_01(tmp_path: Path) -> None:
    message = refusal(check_tls(tmp_path, NGINX_SERVER_NAME="example.com *.example.com"), 64)
    assert message == "NGINX_SERVER_NAME: a certificate for *.example.com needs DNS-01: set ACME_DNS_PLUGIN"
    credentials = tmp_path / "dns.ini"
    credentials.touch()
    dns = {"ACME_DNS_PLUGIN": "rfc2136", "ACME_DNS_CREDENTIALS": str(credentials)}
    assert check_tls(tmp_path, NGINX_SERVER_NAME="*.example.com", **dns).errors == []


@pytest.mark.parametrize("address", ["192.0.2.7", "[2001:db8::1]"])
def test_an_address_needs_the_short_lived_profile(address: str, tmp_path: Path) -> None:
    message = refusal(check_tls(tmp_path, NGINX_SERVER_NAME=f"example.com {address}"), 64)
    assert message == f"NGINX_SERVER_NAME: an address such as {address} needs ACME_PROFILE=shortlived"
    assert check_tls(tmp_path, NGINX_SERVER_NAME=address, ACME_PROFILE="shortlived").errors == []


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("TLS_CERTIFICATE", "TLS_CERTIFICATE_KEY"),
        ("ACME_EAB_KID", "ACME_EAB_HMAC_FILE"),
        ("ACME_DNS_PLUGIN", "ACME_DNS_CREDENTIALS"),
    ],
)
def test_what_goes_together_is_asked_for_together(one: str, other: str, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    values = {name: str(file) if name in variables.FILES else "word" for name in (one, other)}
    for name in (one, other):
        message = refusal(check_tls(tmp_path, **{name: values[name]}), 64)
        assert message == f"{one} and {other} go together: set both or neither"
    assert check_tls(tmp_path, **values).errors == []


@pytest.mark.parametrize("name", variables.FILES)
def test_a_file_that_is_not_there_is_named(name: str, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    together = {"TLS_CERTIFICATE": "TLS_CERTIFICATE_KEY", "TLS_CERTIFICATE_KEY": "TLS_CERTIFICATE"}
    words = {"ACME_EAB_HMAC_FILE": ("ACME_EAB_KID", "kid"), "ACME_DNS_CREDENTIALS": ("ACME_DNS_PLUGIN", "rfc2136")}
    rest = {together[name]: str(file)} if name in together else dict([words[name]]) if name in words else {}
    message = refusal(check_tls(tmp_path, **rest, **{name: str(tmp_path / "none")}), 66)
    assert message == f"{name}={tmp_path}/none does not exist: mount it readable for group 0"


def test_a_missing_letsencrypt_folder_is_named_with_its_mount(tmp_path: Path) -> None:
    message = refusal(check_tls(tmp_path / "letsencrypt"), 66)
    assert f"mount it (volumes: ['./letsencrypt:{tmp_path}/letsencrypt'])" in message


def test_with_a_certificate_of_one_s_own_no_folder_is_asked_for_and_any_name_passes(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    own = dict.fromkeys(("TLS_CERTIFICATE", "TLS_CERTIFICATE_KEY"), str(tmp_path / "file"))
    assert check_tls(tmp_path / "none", NGINX_SERVER_NAME="*.example.com 192.0.2.7", **own).errors == []


@pytest.mark.parametrize(
    ("text", "place"),
    [
        (b"a = b\n# M\xc3\xbcnchen\n", "line 2, column 4"),
        (b"\xef\xbb\xbfa = b\n", "line 1, column 1"),
        (b"a = b\r\nc = \xff", "line 2, column 5"),
    ],
)
def test_a_byte_in_cli_ini_that_is_not_ascii_is_found(text: bytes, place: str, tmp_path: Path) -> None:
    (tmp_path / "cli.ini").write_bytes(text)
    message = refusal(check_tls(tmp_path), 65)
    assert message == f"{tmp_path}/cli.ini, {place}: not ASCII, certbot cannot read it"


def test_cli_ini_in_ascii_passes(tmp_path: Path) -> None:
    (tmp_path / "cli.ini").write_text("# any\nkey-type = rsa\n")
    assert check_tls(tmp_path).errors == []


def test_everything_wrong_is_listed(tmp_path: Path) -> None:
    (tmp_path / "cli.ini").write_bytes(b"\xff")
    report = check_tls(tmp_path, NGINX_SERVER_NAME="*.a.test 192.0.2.7", TLS_CERTIFICATE_KEY="/none", ACME_EAB_KID="k")
    assert [status for status, _ in report.errors] == [64, 64, 66, 64, 64, 65]
    assert report.status == 64
