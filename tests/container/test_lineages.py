"""/etc/letsencrypt in any state: faults are noticed, logged and repaired, and HTTPS is served meanwhile."""

import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.support.acme import NAMES, Pebble, TlsStack, is_temporary, key_pem, self_made
from tests.support.docker import IMAGE, LABEL, docker
from tests.support.lineage import Authority, Lineage, clone, fill
from tests.support.wait import wait_until

# The content of these sites does not matter.
QUICK = {"UWSGI_PROCESSES": "1", "RUN_MIGRATIONS": "off"}
NO_SERVER = "https://127.0.0.1:9/dir"
# The site is called by port 8443 of its container, and Pebble alone knows that.
NOTE = r"certbot: note: .*"


@dataclass(frozen=True)
class Fault:
    """A fault put into a good lineage, the log's words about it, and whether the certificate can still be served."""

    break_: Callable[[Lineage], object]
    said: str
    usable: bool = False
    names: tuple[str, ...] = ()
    days: float = 60
    # certbot makes a new version in the same folders, and the old one stays beside it.
    aside: bool = True


def other_key(lineage: Lineage) -> None:
    lineage.file("privkey").write_bytes(key_pem(self_made([lineage.name])[1]))


def nothing(lineage: Lineage) -> None:
    pass


FAULTS = {
    "dangling-link": Fault(lambda one: one.file("fullchain").unlink(), "is incomplete: .*fullchain.pem does not exist"),
    "archive-missing": Fault(
        lambda one: one.archive.rename(one.folder / "somewhere-else"), "is incomplete: .*fullchain.pem does not exist"
    ),
    "empty-chain": Fault(lambda one: one.cut("fullchain", 0), "does not parse: its chain is empty"),
    "truncated-leaf": Fault(lambda one: one.cut("fullchain", 0.3), "does not parse: its chain is"),
    "truncated-chain": Fault(lambda one: one.cut("fullchain", 0.8), "does not parse: its chain is truncated"),
    "truncated-key": Fault(lambda one: one.cut("privkey", 0.5), "does not parse: its key is"),
    "key-mismatch": Fault(other_key, "has a key that does not belong to it"),
    "wrong-name": Fault(nothing, "does not cover wrong-name.test", names=("other.test",), aside=False),
    "expired": Fault(nothing, "has expired", usable=True, days=-1, aside=False),
    "conf-broken": Fault(
        lambda one: one.conf.write_bytes(b"[renewalparams\n\xff="), "that cannot be read", usable=True
    ),
    "conf-empty": Fault(lambda one: one.conf.write_text(""), "without cert, privkey", usable=True),
    "conf-missing": Fault(lambda one: one.conf.unlink(), "that cannot be read", usable=True),
    "links-copied": Fault(Lineage.copy_links, "cert.pem is not the link that certbot made", usable=True),
}


@dataclass(frozen=True)
class Course:
    """Observations of a site from its start until it had a new certificate."""

    made: x509.Certificate
    first: x509.Certificate
    last: x509.Certificate
    log: str
    files: str


@pytest.fixture(scope="module")
def authority() -> Authority:
    return self_made(["an authority"], authority=True)


def issued(stack: TlsStack, by: str = "Pebble") -> x509.Certificate:
    """The certificate served, once it is the authority's. Raises TimeoutError."""

    def new() -> x509.Certificate | None:
        found = stack.served()
        return found if by in found.issuer.rfc4514_string() else None

    return wait_until(new, 60, 0.2)


@pytest.fixture(scope="module")
def courses(
    pebble: Pebble, authority: Authority, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Course | AssertionError]]:
    """Each fault in a site of its own, several sites at once; for a site that failed, the reason."""
    folder = tmp_path_factory.mktemp("faults")
    stacks: list[TlsStack] = []

    def run(name: str) -> Course | AssertionError:
        fault = FAULTS[name]
        stack = TlsStack(pebble, QUICK, names=(f"{name}.test",))
        stacks.append(stack)
        lineage = Lineage(folder / name, f"{name}.test")
        made = lineage.make(authority, fault.names, days=fault.days)
        fault.break_(lineage)
        fill(stack, lineage.folder)
        stack.start()
        try:
            first = wait_until(stack.served)
            last = issued(stack)
            stack.wait_ok()
            files = stack.exec("find", "/etc/letsencrypt", "-mindepth", "2")
        except (AssertionError, TimeoutError) as reason:
            return AssertionError(f"{reason}\n{stack.report()}")
        course = Course(made, first, last, stack.logs(), files)
        stack.remove()
        return course

    try:
        with ThreadPoolExecutor(3) as pool:
            yield dict(zip(FAULTS, pool.map(run, FAULTS), strict=True))
    finally:
        for stack in stacks:
            stack.remove()


@pytest.fixture
def course(fault: str, courses: dict[str, Course | AssertionError]) -> Course:
    found = courses[fault]
    if isinstance(found, AssertionError):
        raise found
    return found


@pytest.mark.parametrize("fault", FAULTS)
def test_a_broken_lineage_is_noticed_and_said(fault: str, course: Course) -> None:
    assert re.search(f"certbot: the stored certificate .*{FAULTS[fault].said}.*; asking https://", course.log)


@pytest.mark.parametrize("fault", FAULTS)
def test_meanwhile_what_can_be_served_is_served(fault: str, course: Course) -> None:
    assert course.first == course.made if FAULTS[fault].usable else is_temporary(course.first)


@pytest.mark.parametrize("fault", FAULTS)
def test_the_new_certificate_has_the_same_name(fault: str, course: Course) -> None:
    assert sans(course.last) == {f"{fault}.test"}
    entries = set(re.findall(r"^/etc/letsencrypt/(?:live|archive|renewal)/([^/\n]+)", course.files, re.M))
    assert entries - {"README"} == {f"{fault}.test", f"{fault}.test.conf"}


@pytest.mark.parametrize("fault", FAULTS)
def test_the_broken_one_is_kept(fault: str, course: Course) -> None:
    kept = f"/broken/{fault}.test-[0-9T]+/live/{fault}.test/fullchain.pem"
    if not FAULTS[fault].aside:
        kept = f"/archive/{fault}.test/fullchain1.pem"
    assert re.search(f"^/etc/letsencrypt{kept}$", course.files, re.M)


def sans(certificate: x509.Certificate) -> set[str]:
    found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return set(found.get_values_for_type(x509.DNSName))


def test_what_is_usable_is_served_on_while_no_authority_answers(
    tmp_path: Path, authority: Authority, new_stack: Callable[[TlsStack], TlsStack]
) -> None:
    stack = new_stack(TlsStack(None, {**QUICK, "ACME_SERVER": NO_SERVER}))
    lineage = Lineage(tmp_path, NAMES[0])
    made = lineage.make(authority, NAMES)
    lineage.conf.write_text("")
    fill(stack, tmp_path)
    stack.allowed = [NOTE, "error: no certificate: "]
    stack.start()
    assert stack.says("error: no certificate: ", 120)
    assert stack.served() == made
    stack.stop()
    docker("start", stack.name)
    assert wait_until(stack.served) == made
    assert stack.status()["state"] == "failing"


@pytest.fixture(scope="module")
def stored(pebble: Pebble) -> Iterator[TlsStack]:
    """A site that has ended and left its certificate in its volume."""
    stack = TlsStack(pebble, QUICK)
    try:
        stack.start()
        issued(stack)
        stack.wait_ok()
        stack.stop()
        yield stack
    finally:
        stack.remove()


@dataclass(frozen=True)
class Site:
    """A site on a copy of the stored certificate, with what it served first and the orders made before it."""

    stack: TlsStack
    first: x509.Certificate
    orders: int


@pytest.fixture
def site_on(pebble: Pebble, stored: TlsStack, new_stack: Callable[[TlsStack], TlsStack]) -> Callable[..., Site]:
    """Starts a site for `names` on a copy that a shell script has changed."""

    def start(change: str = ":", names: tuple[str, ...] = NAMES) -> Site:
        stack = new_stack(TlsStack(pebble, QUICK, names=names))
        clone(stack, stored.letsencrypt, change)
        orders = pebble.orders()
        stack.start()
        return Site(stack, wait_until(stack.served), orders)

    return start


def replaced(site: Site) -> x509.Certificate:
    """The certificate that took the first one's place. Raises TimeoutError."""

    def another() -> x509.Certificate | None:
        found = site.stack.served()
        return None if found == site.first else found

    return wait_until(another, 60, 0.2)


def test_a_standalone_authenticator_becomes_webroot_without_a_new_certificate(
    pebble: Pebble, site_on: Callable[..., Site]
) -> None:
    conf = f"renewal/{NAMES[0]}.conf"
    site = site_on(
        f"sed -i -e 's/^authenticator = .*/authenticator = standalone/' -e '/webroot/d' -e '/ = .var.www/d' {conf}"
        f" && echo 'pref_challs = http-01,' >>{conf} && grep -q standalone {conf}"
    )
    stack = site.stack
    assert stack.says("will be renewed by webroot from now on")
    text = stack.exec("cat", f"/etc/letsencrypt/{conf}")
    assert "authenticator = webroot\n" in text
    assert not re.search("standalone|pref_challs", text)
    assert (stack.served(), pebble.orders()) == (site.first, site.orders)
    stack.exec("certbot", "renew", "--force-renewal")
    assert replaced(site) != site.first
    assert pebble.orders() == site.orders + 1


def test_a_certificate_of_another_authority_is_replaced(site_on: Callable[..., Site]) -> None:
    site = site_on(f"sed -i 's#^server = .*#server = https://staging.test/directory#' renewal/{NAMES[0]}.conf")
    assert not is_temporary(site.first)
    assert sans(replaced(site)) == set(NAMES)
    assert "is of https://staging.test/directory, wanted is one of https://pebble" in site.stack.logs()
    assert site.stack.exec("ls", "/etc/letsencrypt/renewal") == f"{NAMES[0]}.conf"


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ((*NAMES, "new.example.test"), "does not cover new.example.test"),
        (("new.example.test", *NAMES), "does not exist yet"),
        (NAMES[:1], f"covers {NAMES[1]}, no name of this site"),
    ],
    ids=["added", "added in front", "removed"],
)
def test_other_names_get_another_certificate_and_the_old_one_is_served_until_then(
    names: tuple[str, ...], said: str, site_on: Callable[..., Site]
) -> None:
    site = site_on(names=names)
    assert sans(site.first) == set(NAMES)
    assert sans(replaced(site)) == set(names)
    assert f"certbot: the stored certificate {said}" in site.stack.logs()
    site.stack.wait_ok()


def test_cli_ini_is_honoured(site_on: Callable[..., Site]) -> None:
    site = site_on("echo 'key-type = rsa' >cli.ini && chown 10001:0 cli.ini", NAMES[1:])
    assert isinstance(replaced(site).public_key(), rsa.RSAPublicKey)


# Atomically, since the program or certbot may read the files at any moment.
REPLACE = """
cd /etc/letsencrypt/archive/{name}
program=$(supervisorctl pid certificate)
kill -STOP "$program"
while cat /proc/[0-9]*/cmdline 2>/dev/null | grep -aq 'bin/certbo[t]'; do sleep 0.1; done
for kind in cert privkey chain fullchain; do cat /tmp/new/$kind >${{kind}}1.pem; done
kill -CONT "$program"
"""


def test_a_certificate_replaced_behind_the_back_is_noticed_served_and_said(
    authority: Authority, site_on: Callable[..., Site], tmp_path: Path
) -> None:
    site = site_on()
    other = Lineage(tmp_path, NAMES[0])
    made = other.make(authority, NAMES)
    site.stack.exec("mkdir", "/tmp/new")
    for kind in ("cert", "privkey", "chain", "fullchain"):
        site.stack.exec("sh", "-c", f"cat >/tmp/new/{kind} <<E\n{other.file(kind).read_text()}E")
    site.stack.exec("sh", "-ec", REPLACE.format(name=NAMES[0]))
    wait_until(lambda: site.stack.served() == made)
    assert site.stack.says("nginx has a certificate of CN=an authority")


SERVE_ANOTHER = f"""
cd /run/tls
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 9 -subj /CN=stranger \
    -addext subjectAltName=DNS:{NAMES[0]} -keyout other.key -out other.pem 2>&1
was=$(readlink current)
mkdir other && mv other.key other/privkey.pem && mv other.pem other/fullchain.pem
ln -s other next && mv -T next current
kill -HUP "$(cat /run/nginx.pid)"
sleep 1
ln -s "$was" next && mv -T next current
"""


@pytest.mark.slow
def test_nginx_serving_another_certificate_than_the_stored_one_is_reloaded(site_on: Callable[..., Site]) -> None:
    site = site_on()
    site.stack.wait_healthy()
    site.stack.exec("sh", "-ec", SERVE_ANOTHER)
    assert site.stack.served() != site.first
    assert site.stack.status()["state"] == "different"
    assert site.stack.says("nginx serves another certificate than it was given: reloading it", 90)
    wait_until(lambda: site.stack.served() == site.first)


ROOTS = "chown -R 0:0 . && find . -type d -exec chmod 0700 {} + && find . -type f -exec chmod 0600 {} +"
SHARED = "chown -R 0:0 . && chmod -R u=rwX,g=rwX,o= ."


def test_the_first_versions_folder_ends_the_start_with_the_command_that_mends_it(
    pebble: Pebble, stored: TlsStack, new_stack: Callable[[TlsStack], TlsStack]
) -> None:
    stack = new_stack(TlsStack(pebble, QUICK))
    stack.allowed = ["cmd: error: "]
    clone(stack, stored.letsencrypt, f"{ROOTS} && chmod 0755 . renewal && chmod 0644 renewal/*")
    orders = pebble.orders()
    stack.start()
    assert stack.wait_end() == 73
    message = stack.last_line()
    assert "/etc/letsencrypt cannot be written by uid 10001 (remedy, on the host" in message
    command = re.search(r"sudo sh -c '([^']+)'\)$", message)
    assert command
    docker(
        *("run", "--rm", "--label", LABEL, "-u", "0", "-v", f"{stack.letsencrypt}:/host/letsencrypt", "-w", "/host"),
        *(IMAGE, "sh", "-ec", command[1]),
    )
    docker("start", stack.name)
    assert not is_temporary(wait_until(stack.served))
    assert pebble.orders() == orders


@pytest.mark.parametrize(
    ("file", "mode"),
    [(f"archive/{NAMES[0]}", "0700"), (f"archive/{NAMES[0]}/privkey1.pem", "0600")],
)
def test_one_thing_that_only_root_may_use_ends_the_start(
    file: str, mode: str, stored: TlsStack, new_stack: Callable[[TlsStack], TlsStack]
) -> None:
    stack = new_stack(TlsStack(None))
    stack.allowed = ["cmd: error: "]
    clone(stack, stored.letsencrypt, f"chown 0:0 {file} && chmod {mode} {file}")
    assert stack.start().wait_end() == 73
    assert f"/etc/letsencrypt/{file} cannot be written by uid 10001" in stack.last_line()


def test_roots_folder_that_group_0_may_use_is_used(pebble: Pebble, site_on: Callable[..., Site]) -> None:
    site = site_on(SHARED)
    assert not is_temporary(site.first)
    site.stack.exec("certbot", "renew", "--force-renewal")
    assert replaced(site)
    assert pebble.orders() == site.orders + 1


@pytest.mark.parametrize("mounted", [True, False])
def test_a_folder_that_cannot_be_written_ends_the_start(
    mounted: bool, stored: TlsStack, new_stack: Callable[[TlsStack], TlsStack]
) -> None:
    stack = TlsStack(None)
    stack.mounts[0] = f"{stored.letsencrypt}:/etc/letsencrypt:ro"
    if not mounted:
        del stack.mounts[0]
    new_stack(stack).allowed = ["cmd: error: "]
    assert stack.start().wait_end() == 73
    assert "mount it read-write (volumes: ['./letsencrypt:/etc/letsencrypt'])" in stack.last_line()


def test_a_byte_in_cli_ini_that_is_not_ascii_ends_the_start_with_its_place(
    stored: TlsStack, new_stack: Callable[[TlsStack], TlsStack]
) -> None:
    stack = new_stack(TlsStack(None))
    stack.allowed = ["cmd: error: "]
    clone(stack, stored.letsencrypt, "printf 'key-type = rsa\\n# M\\303\\274nchen\\n' >cli.ini")
    assert stack.start().wait_end() == 65
    assert "/etc/letsencrypt/cli.ini, line 2, column 4: not ASCII" in stack.last_line()
