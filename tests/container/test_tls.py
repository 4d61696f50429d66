"""HTTPS as clients see it: versions, ciphers, groups, sessions, names, redirects and headers."""

import contextlib
import re
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from tests.support.acme import NAMES, TlsStack, is_temporary, key_pem, pem, self_made
from tests.support.docker import ROOT, run
from tests.support.http import FORM_TOKEN, Answer, answer, exchange, parse, read_all
from tests.support.stack import ENVIRONMENTS
from tests.support.tls import connected, context, fetch, https, openssl, sni, sslyze
from tests.support.wait import wait_until

ADDRESS = "192.0.2.7"
TWO_YEARS = "max-age=63072000"
PROFILE = ROOT / "tests/mozilla-6.0-intermediate.json"
# Log lines of requests that are expected to fail.
EXPECTED = (
    r"prematurely closed|DAMN ! worker|open\(\) .* failed \(2: No such file|as the test asked|"
    r"Internal Server Error: /crash|Traceback|handlers/exception|csrf.*: Forbidden|"
    r"too large body|error: no certificate: |error: worker .* was killed during GET /die"
)


def mounts(*environments: str) -> list[str]:
    return [f"{ENVIRONMENTS / name}:/app/project/settings/{name}:ro" for name in environments]


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A chain, its key and its authority, readable in the container."""
    folder = tmp_path_factory.mktemp("keys")
    authority = self_made(["an authority"], authority=True)
    leaf, key = self_made(list(NAMES), issuer=authority)
    (folder / "site.pem").write_bytes(pem(leaf) + pem(authority[0]))
    (folder / "site.key").write_bytes(key_pem(key))
    (folder / "root.pem").write_bytes(pem(authority[0]))
    folder.chmod(0o755)
    return folder


@pytest.fixture(scope="module")
def site(keys: Path) -> Iterator[TlsStack]:
    """A site with a certificate that an authority has signed, on a port that is not 443."""
    stack = TlsStack(
        None,
        {
            "DJANGO_SETTINGS_MODULE": "project.settings.trial.settings",
            "TLS_CERTIFICATE": "/tls/site.pem",
            "TLS_CERTIFICATE_KEY": "/tls/site.key",
        },
        mounts=[*mounts("trial"), f"{keys}:/tls:ro"],
    )
    stack.allowed = [EXPECTED]
    try:
        yield stack.up()
        assert not stack.trouble()
    finally:
        stack.remove()


class Bare(TlsStack):
    """A site whose authority does not answer, with everything that is not the default."""

    def __init__(self) -> None:
        variables = {
            "DJANGO_SETTINGS_MODULE": "project.settings.strict.settings",
            "ACME_SERVER": "https://127.0.0.1:9/dir",
            "ACME_PROFILE": "shortlived",
            "HTTPS_PORT": "443",
            "HSTS_SECONDS": "0",
            "NGINX_HTTP3": "on",
            "HEALTH_PATH": "/show",
        }
        super().__init__(None, variables, names=(NAMES[0], ADDRESS), mounts=mounts("trial", "strict"))
        self.allowed = [EXPECTED]
        self.first: Answer | None = None


@pytest.fixture(scope="module")
def bare() -> Iterator[Bare]:
    stack = Bare()
    try:
        stack.start()
        stack.first = wait_until(lambda: fetch(stack, host=NAMES[0]))
        stack.wait_healthy()
        yield stack
        assert not stack.trouble()
    finally:
        stack.remove()


def get(stack: TlsStack, path: str = "/", *, name: str | None = "", host: str = "") -> Answer:
    found = fetch(stack, path, name=name, host=host)
    assert found is not None, f"{path}: closed without an answer"
    return found


# Versions, ciphers, groups


@pytest.mark.parametrize(("version", "accepted"), [("1", False), ("1_1", False), ("1_2", True), ("1_3", True)])
def test_tls_1_2_and_1_3_are_spoken_and_no_older_one(version: str, accepted: bool, site: TlsStack) -> None:
    said = openssl(site, f"-tls{version}", "-cipher", "ALL:@SECLEVEL=0")
    if accepted:
        assert f"Protocol: TLSv{version.replace('_', '.')}" in said
    else:
        assert "alert protocol version" in said


@pytest.mark.parametrize(
    ("cipher", "accepted"),
    [
        ("ECDHE-ECDSA-AES128-GCM-SHA256", True),
        ("ECDHE-ECDSA-AES256-GCM-SHA384", True),
        ("ECDHE-ECDSA-CHACHA20-POLY1305", True),
        ("ECDHE-ECDSA-AES256-CCM", False),
        ("ECDHE-ECDSA-AES128-SHA256", False),
        ("ECDHE-ECDSA-AES128-SHA", False),
        ("DHE-RSA-AES128-GCM-SHA256", False),
        ("AES128-GCM-SHA256", False),
    ],
)
def test_ciphers_are_those_of_the_guideline(cipher: str, accepted: bool, site: TlsStack) -> None:
    said = openssl(site, "-tls1_2", "-cipher", f"{cipher}:@SECLEVEL=0")
    assert f"Cipher is {cipher if accepted else '(NONE)'}" in said


def test_the_client_chooses_the_cipher(site: TlsStack) -> None:
    for cipher in ("ECDHE-ECDSA-CHACHA20-POLY1305", "ECDHE-ECDSA-AES128-GCM-SHA256"):
        rest = "ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-ECDSA-CHACHA20-POLY1305"
        assert f"Cipher is {cipher}" in openssl(site, "-tls1_2", "-cipher", f"{cipher}:{rest}")


@pytest.mark.parametrize(
    ("group", "accepted"),
    [
        ("X25519MLKEM768", True),
        ("X25519", True),
        ("prime256v1", True),
        ("secp384r1", True),
        ("secp521r1", False),
        ("X448", False),
        ("SecP256r1MLKEM768", False),
        ("ffdhe2048", False),
    ],
)
def test_groups_are_those_of_the_guideline(group: str, accepted: bool, site: TlsStack) -> None:
    said = openssl(site, "-tls1_3", "-groups", group)
    assert ("Cipher is TLS_" in said) == accepted, said


def test_the_hybrid_group_is_preferred(site: TlsStack) -> None:
    assert "Negotiated TLS1.3 group: X25519MLKEM768" in openssl(site)


def test_the_key_is_ecdsa_and_no_ocsp_response_is_stapled(site: TlsStack) -> None:
    said = openssl(site, "-status")
    assert "Peer signature type: ecdsa_secp256r1_sha256" in said
    assert "OCSP response: no response sent" in said
    assert isinstance(site.served().public_key(), ec.EllipticCurvePublicKey)


def test_sslyze_finds_it_compliant_with_the_guideline(site: TlsStack, keys: Path) -> None:
    said = sslyze(
        f"{NAMES[0]}:{site.https_port}{{127.0.0.1}}",
        *("--custom_tls_config", PROFILE, "--certinfo_ca_file", keys / "root.pem"),
    )
    assert f"{NAMES[0]}:{site.https_port}: OK - Compliant." in said


# Sessions


def resumes(stack: TlsStack, client: ssl.SSLContext, session: ssl.SSLSession | None) -> tuple[bool, ssl.SSLSession]:
    """Whether a connection with this session resumed it, and the session afterwards."""
    with connected(stack, client=client, session=session) as connection:
        connection.sendall(f"GET /static/none HTTP/1.0\r\nHost: {NAMES[0]}\r\n\r\n".encode())
        with contextlib.suppress(OSError):
            while connection.recv(65536):
                pass
        assert connection.session
        return bool(connection.session_reused), connection.session


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_another_worker_resumes_a_session(version: ssl.TLSVersion, site: TlsStack) -> None:
    client = context()
    client.minimum_version = client.maximum_version = version
    fresh, session = resumes(site, client, None)
    assert not fresh
    workers = "grep -l '^Name:.nginx' /proc/[0-9]*/status"
    before = site.exec("sh", "-c", workers)
    site.exec("sh", "-c", "kill -HUP $(cat /run/nginx.pid)")
    # All workers have been replaced by now.
    wait_until(lambda: len(set(before.split()) & set(site.exec("sh", "-c", workers).split())) == 1)
    resumed, session = resumes(site, client, session)
    assert resumed
    if version == ssl.TLSVersion.TLSv1_2:
        assert not session.has_ticket


def test_a_session_of_tls_1_3_is_a_number_and_no_ticket(site: TlsStack) -> None:
    request = f"GET /static/none HTTP/1.0\\r\\nHost: {NAMES[0]}\\r\\n\\r\\n"
    command = f"openssl s_client -connect 127.0.0.1:8443 -servername {NAMES[0]} -tls1_3 -ign_eof 2>&1"
    said = site.exec("sh", "-c", f"printf '{request}' | {command}")
    tickets = re.findall(r"TLS session ticket:\n((?:\s+[0-9a-f]{4} - .*\n)+)", said)
    assert tickets
    # The 32 bytes that nginx's cache knows it by, 16 a line; with the whole state in it there would be hundreds.
    assert all(len(ticket.splitlines()) == 2 for ticket in tickets)


# HTTP/2 and HTTP/3


@pytest.mark.parametrize(("offered", "chosen"), [(["h2", "http/1.1"], "h2"), (["http/1.1"], "http/1.1")])
def test_http_2_is_chosen_where_it_is_offered(offered: list[str], chosen: str, site: TlsStack) -> None:
    client = context()
    client.set_alpn_protocols(offered)
    with connected(site, client=client) as connection:
        assert connection.selected_alpn_protocol() == chosen


def test_http_2_serves_the_site(site: TlsStack) -> None:
    with https(site, http2=True) as client:
        found = client.get("/show", extensions=sni(site))
    assert (found.status_code, found.http_version) == (200, "HTTP/2")
    shown = found.json()
    assert shown["url"] == f"https://{NAMES[0]}:{site.https_port}/show"
    assert shown["secure"] is True


@pytest.mark.parametrize(
    ("status", "path", "headers"),
    [
        (404, "/static/none", {}),
        (413, "/show", {"Content-Length": "99999999"}),
    ],
)
def test_a_refusal_over_http_2_is_a_page_or_problem_details(
    status: int, path: str, headers: dict[str, str], site: TlsStack
) -> None:
    for accept, kind in (("*/*", "text/html"), ("application/json", "application/problem+json")):
        with https(site, http2=True) as client:
            found = client.get(path, headers={**headers, "Accept": accept}, extensions=sni(site))
        assert (found.http_version, found.status_code, found.headers["content-type"]) == ("HTTP/2", status, kind)
        assert found.headers["x-request-id"] in found.text


def listens_by_udp(stack: TlsStack) -> bool:
    return bool(
        re.search(rf":{8443:04X} ", stack.exec("sh", "-c", "cat /proc/net/udp /proc/net/udp6 2>/dev/null || true"))
    )


def test_http_3_is_off_by_default(site: TlsStack) -> None:
    assert get(site)["alt-svc"] == ""
    assert not listens_by_udp(site)


def test_http_3_is_offered_and_listened_for_when_it_is_on(bare: Bare) -> None:
    assert get(bare)["alt-svc"] == 'h3=":443"; ma=86400'
    assert get(bare, "/static/none")["alt-svc"] == 'h3=":443"; ma=86400'
    assert listens_by_udp(bare)
    said = openssl(bare, "-quic", "-alpn", "h3")
    assert "ALPN protocol: h3" in said
    assert "CN=temporary certificate" in said


# Names


@pytest.mark.parametrize("name", ["other.test", "sub.example.test", None])
def test_a_handshake_for_no_name_of_ours_is_refused(name: str | None, site: TlsStack) -> None:
    with pytest.raises(ssl.SSLError, match="UNRECOGNIZED_NAME"), connected(site, name):
        pass


def test_another_of_our_names_is_served_on_the_same_connection(site: TlsStack) -> None:
    found = get(site, "/show", name=NAMES[0], host=f"{NAMES[1]}:{site.https_port}")
    assert (found.status, b'"host": "www.example.test:' in found.body) == (200, True)


@pytest.mark.parametrize("http2", [False, True])
@pytest.mark.parametrize("host", ["other.test", "192.0.2.1"])
def test_a_host_that_is_not_ours_is_misdirected_in_every_version(host: str, http2: bool, site: TlsStack) -> None:
    with https(site, http2=http2) as client:
        found = client.post("/show?x=1", headers={"Host": host}, extensions=sni(site))
    assert (found.status_code, found.headers["content-type"]) == (421, "text/html")
    assert f"<small>421, request <code>{found.headers['x-request-id']}</code></small>" in found.text
    # Such a name is not ours to bind to HTTPS.
    assert "strict-transport-security" not in found.headers
    line = rf'"POST /show\?x=1 HTTP/{"2.0" if http2 else "1.1"}" 421 .* {found.headers["x-request-id"]}$'
    assert wait_until(lambda: re.search(line, site.logs(), re.MULTILINE))


def test_a_site_that_is_called_by_its_address_answers_clients_that_send_no_name(bare: Bare) -> None:
    assert get(bare, name=None, host=ADDRESS).status == 200
    assert get(bare, name=None, host="other.test").status == 421


# Plain HTTP


@pytest.mark.parametrize("name", [NAMES[0], "other.test"])
def test_plain_http_on_the_tls_port_gets_a_page_that_says_so(name: str, site: TlsStack) -> None:
    with socket.create_connection(("127.0.0.1", site.https_port), 10) as connection:
        connection.sendall(f"GET / HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n".encode())
        told = parse(read_all(connection))
    assert (told.status, told.repeated()) == (400, [])
    assert b"begins with https://" in told.body
    assert told["x-request-id"].encode() in told.body


@pytest.mark.parametrize("path", ["/", "/a/b%20c?x=1&y=%2F", "/static/none", "/.well-known/other"])
def test_http_redirects_to_https_with_path_and_query(path: str, site: TlsStack, bare: Bare) -> None:
    for name in NAMES:
        found = answer(site, path, host=f"{name}:{site.port}")
        assert (found.status, found["location"]) == (301, f"https://{name}:{site.https_port}{path}")
        assert found["strict-transport-security"] == ""
    assert answer(bare, path, host=NAMES[0])["location"] == f"https://{NAMES[0]}{path}"


@pytest.mark.parametrize(
    ("method", "status"), [("HEAD", 301), ("POST", 308), ("PUT", 308), ("DELETE", 308), ("OPTIONS", 308)]
)
def test_a_redirect_keeps_the_method(method: str, status: int, site: TlsStack) -> None:
    found = answer(site, "/body?x=1", method=method, host=NAMES[0], headers="Content-Length: 0\r\n")
    assert (found.status, found["location"]) == (status, f"https://{NAMES[0]}:{site.https_port}/body?x=1")


def test_a_challenge_is_answered_and_not_redirected(site: TlsStack) -> None:
    site.exec("mkdir", "-p", "/run/webroot/.well-known/acme-challenge")
    site.exec("sh", "-c", "printf answer >/run/webroot/.well-known/acme-challenge/token")
    found = answer(site, "/.well-known/acme-challenge/token", host=NAMES[0])
    assert (found.status, found.body, found["content-type"]) == (200, b"answer", "text/plain")
    assert answer(site, "/.well-known/acme-challenge/other", host=NAMES[0]).status == 404
    assert exchange(site, b"GET /.well-known/acme-challenge/token HTTP/1.1\r\nHost: other.test\r\n\r\n") is None


# Headers


def hsts(found: Answer) -> list[str]:
    return [value for name, value in found.headers if name == "strict-transport-security"]


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/", 200),
        ("/none", 404),
        ("/static/start/start.css", 200),
        ("/static/none", 404),
        ("/static/staticfiles.json", 404),
        ("/media/upload.txt", 200),
        ("/media/none", 404),
        ("/admin/", 302),
        ("/crash", 500),
        ("/die", 502),
        (f"/{'x' * 9000}", 414),
    ],
)
def test_hsts_is_on_every_answer_once(path: str, status: int, site: TlsStack) -> None:
    site.exec("sh", "-c", "echo x >/data/media/upload.txt")
    found = get(site, path)
    assert (found.status, hsts(found)) == (status, [TWO_YEARS])


def test_hsts_is_on_the_page_that_says_starting_and_can_be_taken_back(bare: Bare) -> None:
    assert bare.first is not None
    assert (bare.first.status, hsts(bare.first)) == (503, ["max-age=0"])
    assert hsts(get(bare, "/static/none", host=NAMES[0])) == ["max-age=0"]


def test_a_project_s_own_hsts_goes_before_ours(bare: Bare) -> None:
    assert hsts(get(bare, "/show", host=NAMES[0])) == ["max-age=60"]


# The application


def test_cookies_are_secure_and_a_form_sent_from_our_own_port_is_accepted(site: TlsStack) -> None:
    origin = f"https://{NAMES[0]}:{site.https_port}"
    with https(site) as client:
        page = client.get("/admin/login/", extensions=sni(site))
        assert "Secure" in page.headers["set-cookie"]
        token = FORM_TOKEN.search(page.text)
        assert token
        data = {"csrfmiddlewaretoken": token[1]}
        headers = {
            "Origin": origin,
            "Referer": f"{origin}/admin/login/",
            "Cookie": f"csrftoken={client.cookies['csrftoken']}",
        }
        sent = client.post("/protected", data=data, headers=headers, extensions=sni(site))
        assert sent.status_code == 200
        headers["Origin"] = "https://other.test"
        assert client.post("/protected", data=data, headers=headers, extensions=sni(site)).status_code == 403


ASK_HEALTH = """
import socket
connection = socket.socket(socket.AF_UNIX)
connection.connect("/run/health.sock")
connection.sendall(b"GET /show HTTP/1.0\\r\\nHost: health\\r\\n\\r\\n")
answer = b""
while block := connection.recv(65536):
    answer += block
print(answer.decode())
"""


def test_the_page_of_health_path_is_asked_for_over_https(bare: Bare) -> None:
    assert is_temporary(bare.served())
    said = bare.exec("python3", "-c", ASK_HEALTH)
    assert re.match(r"HTTP/1\.1 200 ", said), said
    assert f'"url": "https://{NAMES[0]}/show"' in said


def test_it_is_healthy_under_a_temporary_certificate(bare: Bare) -> None:
    assert is_temporary(bare.served())
    assert run("docker", "exec", bare.name, "healthcheck").stdout == "healthy\n"
    assert bare.status()["state"] == "temporary"
