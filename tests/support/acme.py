"""A real ACME server (Debian's Pebble) on its own network, and a site that orders certificates from it."""

import datetime
import http.client
import itertools
import json
import re
import socket
import ssl
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.support.docker import IMAGE, LABEL, ROOT, docker, follow, run, unique
from tests.support.stack import Stack
from tests.support.tree import helper_image
from tests.support.wait import free_port, wait_until

NAMES = ("example.test", "www.example.test")
DIRECTORY = "https://pebble:14000/dir"


def self_made(
    names: list[str],
    *,
    issuer: tuple[x509.Certificate, ec.EllipticCurvePrivateKey] | None = None,
    authority: bool = False,
    days: float = 30,
) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    """A certificate and its key: an authority's, a leaf under `issuer`, or a self-signed one."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])])
    begin = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=max(1, 1 - days))
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer[0].subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=days))
        # Python 3.13 refuses a chain without the two key identifiers.
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    if issuer:
        above = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer[1].public_key())
        builder = builder.add_extension(above, critical=False)
    if authority:
        signs = {"key_cert_sign": True, "crl_sign": True}
        others = [
            *("digital_signature", "content_commitment", "key_encipherment", "data_encipherment"),
            *("key_agreement", "encipher_only", "decipher_only"),
        ]
        builder = builder.add_extension(x509.BasicConstraints(True, None), critical=True)
        builder = builder.add_extension(x509.KeyUsage(**dict.fromkeys(others, False), **signs), critical=True)
    else:
        alternatives = x509.SubjectAlternativeName([x509.DNSName(name) for name in names])
        builder = builder.add_extension(alternatives, critical=False)
    return builder.sign(issuer[1] if issuer else key, hashes.SHA256()), key


def pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


class Pebble:
    """Pebble in a container named `pebble` on its own network, resolving by Docker's names.

    `validity` is the lifetime of its certificates in seconds; `environment` adds to Pebble's variables, such as
    PEBBLE_WFE_NONCEREJECT (percent); `config` adds to its configuration.
    """

    def __init__(
        self,
        folder: Path,
        *,
        validity: int = 90 * 86400,
        environment: Mapping[str, str] | None = None,
        config: Mapping[str, Any] | None = None,
        dns: str = "127.0.0.11:53",
    ) -> None:
        self.folder = folder
        self.dns = dns
        self.network = unique("acme")
        self.name = unique("pebble")
        self.environment = {"PEBBLE_VA_NOSLEEP": "1", "PEBBLE_WFE_NONCEREJECT": "0", **(environment or {})}
        self.config = {
            "listenAddress": "0.0.0.0:14000",
            "managementListenAddress": "0.0.0.0:15000",
            "certificate": "/pki/leaf.pem",
            "privateKey": "/pki/leaf.key",
            "httpPort": 8080,
            "tlsPort": 8443,
            "certificateValidityPeriod": validity,
            **(config or {}),
        }

    @property
    def bundle(self) -> Path:
        """The authority that signed the ACME server's own TLS certificate, for ACME_CA_BUNDLE."""
        return self.folder / "ca.pem"

    def start(self) -> "Pebble":
        """Make its network and keys, and run it until it answers."""
        authority = self_made(["pebble's authority"], authority=True)
        leaf = self_made(["pebble"], issuer=authority)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.bundle.write_bytes(pem(authority[0]))
        (self.folder / "leaf.pem").write_bytes(pem(leaf[0]))
        (self.folder / "leaf.key").write_bytes(key_pem(leaf[1]))
        (self.folder / "config.json").write_text(json.dumps({"pebble": self.config}))
        docker("network", "create", "--label", LABEL, self.network)
        self.run()
        return self

    def run(self) -> None:
        """Run Pebble; after `end()` it has forgotten every account and order."""
        variables = [word for item in self.environment.items() for word in ("-e", "=".join(item))]
        docker(
            *("run", "-d", "--name", self.name, "--label", LABEL, "--network", self.network),
            *("--network-alias", "pebble", "-v", f"{self.folder}:/pki:ro", *variables),
            *(helper_image("pebble"), "pebble", "-config", "/pki/config.json", "-dnsserver", self.dns),
        )
        wait_until(lambda: "ACME directory available" in self.logs())

    def end(self) -> None:
        """Stop Pebble: connections are refused from now on."""
        docker("rm", "-f", self.name)

    @contextmanager
    def held(self) -> Iterator[None]:
        """While the block runs, Pebble accepts connections but does not answer."""
        docker("pause", self.name)
        try:
            yield
        finally:
            docker("unpause", self.name)

    def logs(self) -> str:
        done = run("docker", "logs", self.name, check=False)
        return done.stdout + done.stderr

    def orders(self) -> int:
        """How many orders Pebble has received since it was started."""
        return len(re.findall(r"Added order ", self.logs()))

    def wait_order(self, before: int, timeout: float = 60) -> None:
        """Return at the moment when it has seen more orders than `before`. Raises TimeoutError."""
        seen = itertools.count(1)
        assert follow(self.name, lambda line: "Added order " in line and next(seen) > before, timeout), self.logs()

    def remove(self) -> None:
        docker("rm", "-f", "-v", self.name, check=False)
        docker("network", "rm", self.network, check=False)


class Impostor(Pebble):
    """tests/support/impostor.py with its arguments, in Pebble's place."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        super().__init__(folder)
        self.arguments = arguments

    def run(self) -> None:
        docker(
            *("run", "-d", "--name", self.name, "--label", LABEL),
            *("--network", self.network, "--network-alias", "pebble"),
            *("-u", "0", "-v", f"{self.folder}:/pki:ro", "-v", f"{ROOT / 'tests/support/impostor.py'}:/impostor.py:ro"),
            *(IMAGE, "python3", "/impostor.py", *self.arguments),
        )
        wait_until(lambda: "ACME directory available" in self.logs())


class TlsStack(Stack):
    """A site over HTTPS whose letsencrypt folder is a volume of its own, on the network of a Pebble."""

    def __init__(
        self,
        pebble: Pebble | None,
        environment: Mapping[str, str | None] | None = None,
        *,
        names: tuple[str, ...] = NAMES,
        letsencrypt: str = "",
        **more: Any,
    ) -> None:
        self.names = names
        self.https_port = free_port()
        self.own_letsencrypt = not letsencrypt
        self.letsencrypt = letsencrypt or unique("letsencrypt")
        variables: dict[str, str | None] = {
            "USE_SSL": "ON",
            "NGINX_SERVER_NAME": " ".join(names),
            "EMAIL_ADDRESS": "admin@example.test",
            "HTTPS_PORT": str(self.https_port),
            # The container starts sooner; these tests concern nginx and certbot, not the application.
            "UWSGI_PROCESSES": "1",
        }
        mounts = [f"{self.letsencrypt}:/etc/letsencrypt", *more.pop("mounts", [])]
        options = ["-p", f"127.0.0.1:{self.https_port}:8443", *more.pop("options", [])]
        if pebble:
            variables |= {"ACME_SERVER": DIRECTORY, "ACME_CA_BUNDLE": "/pki/ca.pem"}
            mounts.append(f"{pebble.bundle}:/pki/ca.pem:ro")
            options += ["--network", pebble.network]
            options += [word for name in names for word in ("--network-alias", name)]
        super().__init__({**variables, **(environment or {})}, mounts=mounts, options=options, **more)

    def start(self) -> Self:
        if self.own_letsencrypt:
            docker("volume", "create", "--label", LABEL, self.letsencrypt)
        super().start()
        return self

    def remove(self) -> None:
        super().remove()
        if self.own_letsencrypt:
            docker("volume", "rm", "-f", self.letsencrypt, check=False)

    def handshake(self, name: str = "") -> ssl.SSLSocket:
        """A TLS connection that asks for `name` (default: the first) and believes any certificate. Raises OSError."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        plain = socket.create_connection(("127.0.0.1", self.https_port), timeout=10)
        try:
            return context.wrap_socket(plain, server_hostname=name or self.names[0])
        except OSError:
            plain.close()
            raise

    def served(self, name: str = "") -> x509.Certificate:
        """The certificate that a client asking for `name` (default: the first) gets. Raises OSError."""
        with self.handshake(name) as connection:
            der = connection.getpeercert(binary_form=True)
        assert der
        return x509.load_der_x509_certificate(der)

    def ask(self, path: str = "/") -> tuple[int, int]:
        """One GET on a connection of its own: the answer's status, and the serial that was served. Raises OSError."""
        with self.handshake() as connection:
            der = connection.getpeercert(binary_form=True)
            client = http.client.HTTPConnection(self.names[0], timeout=10)
            client.sock = connection
            client.request("GET", path)
            status = client.getresponse().status
        return status, x509.load_der_x509_certificate(der or b"").serial_number

    def age(self) -> float:
        """Seconds since the container's start."""
        started = datetime.datetime.fromisoformat(self.state()["StartedAt"])
        return (datetime.datetime.now(datetime.UTC) - started).total_seconds()

    def real(self) -> x509.Certificate:
        """The certificate served, once it is not the temporary one any more. Raises TimeoutError."""
        return wait_until(lambda: None if is_temporary(self.served()) else self.served(), 120)

    def processes(self, what: str) -> int:
        """How many processes have these words in their command line."""
        return docker("top", self.name, "-eo", "pid,args").count(what)

    def certificate(self, *words: str, check: bool = True) -> str:
        """What `certificate WORDS…` in the container prints on stdout."""
        return self.exec("certificate", *words, check=check)

    def status(self) -> dict[str, Any]:
        """`certificate status --json`."""
        found: dict[str, Any] = json.loads(self.certificate("status", "--json"))
        return found

    def wait_ok(self, timeout: float = 60) -> None:
        """Wait until its status is ok. Raises TimeoutError."""
        # First for what the program publishes: each question loads cryptography, and takes CPU from certbot.
        published = 'for _ in $(seq 50); do grep -qs \'"state": "ok"\' /run/certificate.json && break; sleep 0.3; done'
        self.exec("sh", "-c", published, check=False)
        wait_until(lambda: self.status()["state"] == "ok", timeout)

    def in_letsencrypt(self, script: str) -> str:
        """Run a shell script in the letsencrypt volume, as root, whether or not the site runs."""
        return docker(
            *("run", "--rm", "--label", LABEL, "-u", "0", "-v", f"{self.letsencrypt}:/etc/letsencrypt"),
            *("-w", "/etc/letsencrypt", IMAGE, "sh", "-c", script),
        )


class Visitors:
    """A client that sends requests without a pause during a `with` block: the failures, and the serials served."""

    def __init__(self, stack: TlsStack) -> None:
        self.stack = stack
        self.failures: list[str] = []
        self.serials: list[int] = []
        self.over = threading.Event()
        self.thread = threading.Thread(target=self.loop)

    def loop(self) -> None:
        while not self.over.is_set():
            try:
                status, serial = self.stack.ask()
            except (OSError, http.client.HTTPException) as reason:
                self.failures.append(repr(reason))
                continue
            self.serials.append(serial)
            if status != 200:
                self.failures.append(str(status))

    def __enter__(self) -> "Visitors":
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self.thread.join()


def is_temporary(certificate: x509.Certificate) -> bool:
    return "temporary" in certificate.subject.rfc4514_string()
