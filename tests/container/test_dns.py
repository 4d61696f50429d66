"""Certificates by DNS-01, with a plugin of certbot's own and a name server that takes its updates: for wildcards."""

import base64
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.acme import Pebble, TlsStack
from tests.support.docker import LABEL, ROOT, docker, inspect, run, unique
from tests.support.tree import Images, base_image, helper_image, host_ca
from tests.support.wait import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

NAMES = ("example.test", "*.example.test")
CONFIGURATION = """\
options {{ directory "/var/cache/bind"; listen-on {{ any; }}; recursion no; dnssec-validation no; }};
key "updates" {{ algorithm hmac-sha256; secret "{secret}"; }};
zone "example.test" {{ type primary; file "/var/cache/bind/zone"; allow-update {{ key "updates"; }}; }};
"""
ZONE = """\
$TTL 1
@ IN SOA ns.example.test. admin.example.test. 1 60 60 60 1
@ IN NS ns.example.test.
@ IN A 192.0.2.1
ns IN A 192.0.2.1
"""
CREDENTIALS = """\
dns_rfc2136_server = {address}
dns_rfc2136_name = updates
dns_rfc2136_secret = {secret}
dns_rfc2136_algorithm = HMAC-SHA256
"""


@pytest.fixture(scope="module")
def image() -> Iterator[str]:
    """The product with certbot's plugin for dynamic updates."""
    images, tag = Images(), unique("dns")
    images.tags.append(tag)
    arguments = {"BASE_IMAGE": base_image(), "HOST_CA": host_ca(), "CERTBOT_PLUGINS": "certbot-dns-rfc2136"}
    words = [word for name in arguments for word in ("--build-arg", name)]
    try:
        command = ["docker", "build", "-f", "dockerable/Dockerfile", "-t", tag, *words, str(ROOT)]
        images.learn(run(*command, env=arguments, timeout=800).stdout)
        yield tag
    finally:
        images.remove()


class Bind:
    """The name server of example.test on a Pebble's network."""

    def __init__(self, folder: Path, network: str) -> None:
        self.name, self.secret = unique("bind"), base64.b64encode(secrets.token_bytes(32)).decode()
        (folder / "named.conf").write_text(CONFIGURATION.format(secret=self.secret))
        (folder / "zone").write_text(ZONE)
        folder.chmod(0o755)
        start = (
            "install -o bind -m 0644 /etc/zone/zone /var/cache/bind/ && exec named -g -u bind -c /etc/zone/named.conf"
        )
        docker(
            *("run", "-d", "--name", self.name, "--label", LABEL, "--network", network, "--network-alias", "bind"),
            *("-v", f"{folder}:/etc/zone:ro", helper_image("bind"), "sh", "-c", start),
        )
        wait_until(lambda: "running" in run("docker", "logs", self.name).stderr)
        self.address = inspect(self.name)["NetworkSettings"]["Networks"][network]["IPAddress"]


@pytest.fixture(scope="module")
def pebble(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pebble]:
    server = Pebble(tmp_path_factory.mktemp("pebble"), dns="bind:53")
    try:
        yield server.start()
    finally:
        server.remove()


@pytest.fixture(scope="module")
def bind(pebble: Pebble, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bind]:
    server = Bind(tmp_path_factory.mktemp("bind"), pebble.network)
    try:
        yield server
    finally:
        docker("rm", "-f", "-v", server.name)


def test_the_plugin_is_installed_beside_the_certbot_that_is_there(image: str) -> None:
    listed = docker("run", "--rm", "--label", LABEL, image, "/opt/dockerable/bin/certbot", "plugins")
    assert "* dns-rfc2136" in listed
    versions = "import importlib.metadata as m; print(m.version('certbot'), m.version('acme'))"
    installed = docker("run", "--rm", "--label", LABEL, image, "/opt/dockerable/bin/python3", "-c", versions).split()
    pinned = (ROOT / "dockerable/build/requirements-tools.txt").read_text()
    assert f"certbot=={installed[0]} " in pinned
    assert f"acme=={installed[1]} " in pinned


def test_a_wildcard_is_issued_and_renewed_by_dns_01(
    image: str, pebble: Pebble, bind: Bind, tmp_path: Path, new_stack: Callable[[TlsStack], TlsStack]
) -> None:
    credentials = tmp_path / "dns.ini"
    credentials.write_text(CREDENTIALS.format(address=bind.address, secret=bind.secret))
    credentials.chmod(0o644)
    stack = new_stack(
        TlsStack(
            pebble,
            {
                "ACME_DNS_PLUGIN": "rfc2136",
                "ACME_DNS_CREDENTIALS": "/dns/dns.ini",
                "ACME_DNS_PROPAGATION_SECONDS": "0",
            },
            names=NAMES,
            mounts=[f"{tmp_path}:/dns:ro"],
            image=image,
        )
    )
    tmp_path.chmod(0o755)
    stack.start()
    first = stack.real()
    assert stack.served("any.example.test") == first
    stack.wait_ok()
    assert stack.exec("ls", "/etc/letsencrypt/renewal") == "example.test.conf"
    # As a site has it that was certified by webroot before.
    conf = "/etc/letsencrypt/renewal/example.test.conf"
    stack.exec("sed", "-i", "-e", "s/^authenticator = .*/authenticator = webroot/", "-e", "/^dns_/d", conf)
    assert stack.says("will be renewed by dns-rfc2136 from now on")
    stack.exec("certbot", "renew", "--force-renewal")
    wait_until(lambda: stack.served("any.example.test") != first)
