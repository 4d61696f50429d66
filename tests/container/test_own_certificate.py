"""A mounted certificate (TLS_CERTIFICATE): served, reloaded when it changes, never written."""

import datetime
import os
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.support.acme import NAMES, TlsStack, key_pem, pem, self_made
from tests.support.lineage import Authority
from tests.support.wait import wait_until

CHAIN, KEY = "/tls/site.pem", "/tls/site.key"


class Folder:
    """What is mounted at /tls. Files are readable by group 0 alone, or by all where this user cannot give it them."""

    def __init__(self, place: Path, authority: Authority) -> None:
        self.place, self.authority = place, authority
        place.chmod(0o755)

    def make(self, names: tuple[str, ...] = NAMES, days: float = 60) -> tuple[bytes, bytes, x509.Certificate]:
        """A chain and its key as PEM, and the leaf."""
        leaf, key = self_made(list(names), issuer=self.authority, days=days)
        return pem(leaf) + pem(self.authority[0]), key_pem(key), leaf

    def put(self, file: str, content: bytes, mode: int = 0o640) -> None:
        """Write in place, as `cp` over a file does."""
        path = self.place / Path(file).name
        path.write_bytes(content)
        path.chmod(mode if os.getuid() == 0 else mode | 0o004)

    def put_both(self, chain: bytes, key: bytes) -> None:
        """Put a chain and its key there."""
        self.put(KEY, key)
        self.put(CHAIN, chain)

    def renew(self, names: tuple[str, ...] = NAMES, days: float = 60) -> x509.Certificate:
        """Put another pair there; its leaf."""
        chain, key, leaf = self.make(names, days)
        self.put_both(chain, key)
        return leaf


@pytest.fixture(scope="module")
def authority() -> Authority:
    return self_made(["an authority"], authority=True)


def own(folder: Folder, **variables: str) -> TlsStack:
    """A site with the folder's pair and no letsencrypt folder."""
    environment = {"TLS_CERTIFICATE": CHAIN, "TLS_CERTIFICATE_KEY": KEY, "EMAIL_ADDRESS": "", "RUN_MIGRATIONS": "off"}
    stack = TlsStack(None, {**environment, **variables}, mounts=[f"{folder.place}:/tls:ro"])
    stack.mounts = [mount for mount in stack.mounts if ":/etc/letsencrypt" not in mount]
    return stack


@pytest.fixture(scope="module")
def folder(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Folder:
    return Folder(tmp_path_factory.mktemp("tls"), authority)


@pytest.fixture(scope="module")
def site(folder: Folder) -> Iterator[TlsStack]:
    """A healthy site, first with a certificate for all its names that lasts."""
    stack = own(folder)
    folder.renew()
    try:
        stack.up()
        yield stack
    finally:
        stack.remove()


def is_served(stack: TlsStack, leaf: x509.Certificate) -> None:
    wait_until(lambda: stack.served() == leaf, 15, 0.2)


def start_nginx_again(stack: TlsStack) -> None:
    """End nginx, and wait until it has started again and answers."""
    before = stack.exec("cat", "/run/nginx.pid")
    stack.exec("sh", "-c", "kill -TERM $(cat /run/nginx.pid)")
    wait_until(lambda: stack.exec("cat", "/run/nginx.pid", check=False) not in ("", before), 15)
    stack.wait_healthy()


def small_key(authority: Authority) -> tuple[bytes, bytes]:
    """A chain for all names, and its key of 1024 bits."""
    key, now = rsa.generate_private_key(65537, 1024), datetime.datetime.now(datetime.UTC)
    leaf = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(authority[0].subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + datetime.timedelta(days=60))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name) for name in NAMES]), critical=False)
        .sign(authority[1], hashes.SHA256())
    )
    plain = (serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return pem(leaf) + pem(authority[0]), key.private_bytes(serialization.Encoding.PEM, *plain)


def lines(stack: TlsStack, word: str) -> list[str]:
    return [line for line in stack.logs().splitlines() if line.startswith("certbot: ") and word in line]


def test_it_is_served_and_nothing_asks_for_another(site: TlsStack, folder: Folder) -> None:
    leaf = x509.load_pem_x509_certificate((folder.place / "site.pem").read_bytes())
    assert site.served() == leaf
    assert site.trouble() == []
    assert "asking" not in site.logs()
    assert site.exec("sh", "-c", "ls /etc/letsencrypt /run/letsencrypt 2>/dev/null || true") == "/etc/letsencrypt:"
    status = site.status()
    assert (status["source"], status["state"], status["problem"]) == ("own", "ok", "")
    assert status["served"] == status["stored"]
    assert status["served"]["serial"] == f"{leaf.serial_number:x}"
    done = site.exec("sh", "-c", "certificate renew 2>&1; echo $?")
    assert "is yours: nothing to renew" in done and done.endswith("64")


def test_a_replaced_file_is_served_by_itself_also_with_the_same_time(site: TlsStack, folder: Folder) -> None:
    before = [(path, path.stat()) for path in (folder.place / "site.pem", folder.place / "site.key")]
    leaf = folder.renew()
    for path, stat in before:
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    is_served(site, leaf)


def test_files_replaced_by_rename_are_served_too(site: TlsStack, folder: Folder) -> None:
    chain, key, leaf = folder.make()
    for file, content in ((CHAIN, chain), (KEY, key)):
        folder.put(f"{file}.new", content)
        new = folder.place / f"{Path(file).name}.new"
        new.replace(new.with_suffix(""))
    is_served(site, leaf)


def test_a_broken_replacement_is_said_once_and_not_used(site: TlsStack, folder: Folder) -> None:
    old, before = site.served(), len(lines(site, "error"))
    chain, key, leaf = folder.make()
    folder.put(CHAIN, chain)
    wait_until(lambda: len(lines(site, "error")) > before)
    # Until the program has looked again.
    until = time.monotonic() + 7
    wait_until(lambda: time.monotonic() > until)
    assert lines(site, "error")[before:] == [f"certbot: error: {CHAIN} has a key that does not belong to it"]
    assert site.served() == old
    status = site.status()
    assert (status["state"], status["problem"]) == ("failing", "has a key that does not belong to it")
    folder.put(KEY, key)
    is_served(site, leaf)


def test_a_chain_that_only_python_parses_is_mended(site: TlsStack, folder: Folder) -> None:
    chain, key, leaf = folder.make()
    joined = chain.replace(b"-----\n-----", b"----------")
    assert joined != chain
    folder.put_both(joined, key)
    is_served(site, leaf)
    start_nginx_again(site)
    assert site.served() == leaf
    status = site.status()
    assert (status["state"], status["problem"]) == ("ok", "")


def test_a_key_that_openssl_refuses_leaves_nginx_what_works(site: TlsStack, folder: Folder) -> None:
    old = site.served()
    folder.put_both(*small_key(folder.authority))
    said = "is refused by OpenSSL: its key is too small (remedy: ECDSA, or RSA with at least 2048 bits)"
    wait_until(lambda: lines(site, said), 15)
    assert lines(site, said) == [f"certbot: error: {CHAIN} {said}"]
    start_nginx_again(site)
    assert site.served() == old
    status = site.status()
    assert (status["state"], status["problem"]) == ("failing", said)


def test_one_that_expires_soon_is_served_with_a_warning(site: TlsStack, folder: Folder) -> None:
    is_served(site, folder.renew(days=20.5))
    wait_until(lambda: lines(site, "warning: "), 10)
    assert lines(site, "warning: ")[-1] == f"certbot: warning: {CHAIN} expires in 20 days: replace it"
    assert len(lines(site, "expires in")) == 1


def test_one_that_has_expired_and_lacks_a_name_is_served_with_warnings(site: TlsStack, folder: Folder) -> None:
    is_served(site, folder.renew(NAMES[:1], days=-1))
    wait_until(lambda: lines(site, "has expired on"), 10)
    assert site.status()["state"] == "expired"
    site.wait_healthy()
    assert lines(site, "does not cover") == [f"certbot: warning: {CHAIN} does not cover {NAMES[1]}"]
    assert site.status()["problem"] == f"does not cover {NAMES[1]}"


Change = Callable[[Folder], object]


@pytest.mark.parametrize(
    ("change", "status", "said"),
    [
        (lambda one: (one.place / "site.key").unlink(), 66, f"TLS_CERTIFICATE_KEY={KEY} does not exist"),
        (lambda one: one.put(KEY, one.make()[1]), 65, f"{CHAIN} has a key that does not belong to it"),
        (lambda one: one.put(CHAIN, b"nothing\n"), 65, f"{CHAIN} does not parse: its chain is empty"),
        (lambda one: one.put_both(*small_key(one.authority)), 65, f"{CHAIN} is refused by OpenSSL: its key is too sm"),
    ],
    ids=["missing", "mismatched", "no PEM", "small key"],
)
def test_one_that_cannot_be_used_ends_the_start_with_the_reason(
    change: Change,
    status: int,
    said: str,
    authority: Authority,
    tmp_path: Path,
    new_stack: Callable[[TlsStack], TlsStack],
) -> None:
    folder = Folder(tmp_path, authority)
    folder.renew()
    change(folder)
    stack = new_stack(own(folder))
    stack.allowed = ["error: "]
    assert stack.start().wait_end() == status
    assert re.search(f"error: {re.escape(said)}", stack.last_line())


@pytest.mark.skipif(os.getuid() != 0, reason="only root can take a file from a container that runs with its own group")
def test_one_that_cannot_be_read_ends_the_start_with_the_reason(
    authority: Authority, tmp_path: Path, new_stack: Callable[[TlsStack], TlsStack]
) -> None:
    folder = Folder(tmp_path, authority)
    folder.renew()
    folder.put(KEY, b"", 0o600)
    stack = new_stack(own(folder))
    stack.allowed = ["error: "]
    assert stack.start().wait_end() == 66
    assert f"TLS_CERTIFICATE_KEY={KEY} cannot be read by uid 10001: mount it readable for group 0" in stack.last_line()
