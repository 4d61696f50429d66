"""Random values of variables: nginx accepts all that pass the checks, and none adds a directive."""

import json
import shlex
import socket
import tempfile
from collections import Counter
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import crossplane
import pytest
from hypothesis import HealthCheck, Phase, given, settings

from dockerable.container import variables as table
from dockerable.container.exit_status import USAGE
from dockerable.container.report import Report
from tests.support.docker import IMAGE, LABEL, ROOT, docker, unique
from tests.support.values import CANDIDATES, FILE
from tests.support.wait import wait_until

HARMLESS = {"NGINX_SERVER_NAME": "www.example.com", "DJANGO_SETTINGS_MODULE": "elsewhere.settings"}
# The variables that choose the site's template and comment lines out.
SHAPES = ("USE_SSL", "NGINX_HTTP3", "NGINX_LIMIT_CONNECTIONS", "NGINX_LIMIT_REQUESTS")
PAIRS = (
    ("TLS_CERTIFICATE", "TLS_CERTIFICATE_KEY"),
    ("ACME_EAB_KID", "ACME_EAB_HMAC_FILE"),
    ("ACME_DNS_PLUGIN", "ACME_DNS_CREDENTIALS"),
)


class Container:
    """The image's programs in one container, called for each example; counts the examples that they accept."""

    def __init__(self, place: Path) -> None:
        self.name = unique("fuzz")
        tmpfs = ("/run:mode=0770", "/tmp", "/data:mode=2770", "/etc/letsencrypt:mode=2770")
        words = [word for place in tmpfs for word in ("--tmpfs", place)]
        words += ["--read-only", "--network", "none", "--sysctl", "net.core.somaxconn=1024"]
        words += ["-v", f"{ROOT / 'tests/support/render.py'}:/render.py:ro", "-v", f"{place}:/exchange"]
        place.chmod(0o777)
        docker("run", "-d", "--name", self.name, "--label", LABEL, *words, IMAGE, "sleep", "3600")
        certificate = "mkdir -p /data/tmp/nginx /run/log /run/tls/current && cd /run/tls/current && openssl req -x509"
        certificate += " -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout privkey.pem -out fullchain.pem"
        certificate += " -subj /CN=x 2>&1"
        docker("exec", self.name, "sh", "-c", certificate)
        docker("exec", "-d", self.name, "python3", "/render.py")
        self.connection = socket.socket(socket.AF_UNIX)
        self.connection.settimeout(60)
        wait_until(lambda: self.connection.connect_ex(str(place / "socket")) == 0)
        self.stream = self.connection.makefile("rw")
        self.taken: Counter[str] = Counter()

    def ask(self, variables: dict[str, str]) -> dict:
        print(json.dumps(variables), file=self.stream, flush=True)
        return json.loads(self.stream.readline())

    def remove(self) -> None:
        self.connection.close()
        docker("rm", "-f", self.name)


@pytest.fixture(scope="module")
def container(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Container]:
    container = Container(tmp_path_factory.mktemp("exchange"))
    try:
        yield container
    finally:
        container.remove()


class Directive(NamedTuple):
    """Of a rendered file; an entry of a map or a geo is one too, its key the name."""

    depth: int
    block: str
    name: str
    args: tuple[str, ...]

    def shape(self) -> tuple[int, str, str, int]:
        """What does not depend on values."""
        name = "" if self.block in ("map", "geo") else self.name
        return self.depth, self.block, name, len(self.args) if name != "server_name" else 0


def walk(block: list[dict], depth: int = 0, name: str = "") -> Iterator[Directive]:
    for one in block:
        yield Directive(depth, name, one["directive"], tuple(one["args"]))
        yield from walk(one.get("block", ()), depth + 1, one["directive"])


# Most files are the same for all.
@lru_cache(2000)
def parse(text: str) -> list[Directive]:
    """A rendered file's directives."""
    with tempfile.NamedTemporaryFile("w", suffix=".conf") as file:
        file.write(text)
        file.flush()
        found = crossplane.parse(file.name, single=True, check_ctx=False, check_args=False)
    assert found["status"] == "ok", found["errors"]
    return list(walk(found["config"][0]["parsed"]))


def accepted(variables: dict[str, str]) -> dict[str, str]:
    """Those that pass by themselves; every refusal is one line that can be printed, and keeps the value's end."""
    report = Report()
    # Its default stands in a file of the image.
    variables = {**HARMLESS, **{name: value for name, value in variables.items() if value or name not in HARMLESS}}
    table.check(variables, report)
    for status, message in report.errors:
        assert status == USAGE
        assert message.isprintable() and len(message) < 1000, message
    refused = {message.split("=")[0].split(":")[0].split()[0] for _, message in report.errors}
    kept = HARMLESS | {name: value for name, value in variables.items() if name not in refused}
    for one, other in PAIRS:
        if not (kept.get(one) and kept.get(other)):
            kept.pop(one, None)
            kept.pop(other, None)
    return {name: FILE if value and name in table.FILES else value for name, value in kept.items()}


def shape(files: dict[str, str]) -> dict[str, list]:
    """What must be the same whatever the values are, but for the lines of TRUSTED_PROXIES."""

    def of_proxy(one: Directive) -> bool:
        return one.name == "set_real_ip_from" or (one.block == "geo" and one.args == ("1",))

    return {file: [one.shape() for one in parse(text) if not of_proxy(one)] for file, text in files.items()}


def judge(candidates: dict[str, str], container: Container) -> None:
    """One example: nothing is rendered, or nginx accepts the result, which has the directives of harmless values."""
    variables = accepted(candidates)
    answer = container.ask(variables)
    if answer["status"]:
        assert answer["stdout"] == "", answer
        assert "error: " in answer["stderr"]
        container.taken["refused"] += 1
        return
    assert answer["rendered"] == 0, answer["said"]
    # The image's Python writes some IPv6 addresses in another way than the host's.
    checked = dict(word.split("=", 1) for word in shlex.split(answer["stdout"]) if "=" in word)
    switches = {one: checked[one] for one in SHAPES}
    container.taken["https" if switches["USE_SSL"] == "on" else "http"] += 1
    for one in parse(answer["files"]["site.conf"]):
        if one.name == "server_name" and one.args != ("_",):
            assert " ".join(one.args) == checked["NGINX_SERVER_NAME"]
    clients = parse(answer["files"]["client.conf"])
    proxies = " ".join(one.args[0] for one in clients if one.name == "set_real_ip_from")
    assert proxies == checked["TRUSTED_PROXIES"]
    assert proxies == " ".join(one.name for one in clients if one.block == "geo" and one.args == ("1",))
    assert shape(answer["files"]) == harmless(container, *switches.values())


@lru_cache(None)
def harmless(container: Container, *switches: str) -> dict[str, list]:
    own = {"TLS_CERTIFICATE": FILE, "TLS_CERTIFICATE_KEY": FILE}
    on = ["1" if one.isdigit() and one != "0" else one for one in switches]
    answer = container.ask({**HARMLESS, **own, **dict(zip(SHAPES, on, strict=True))})
    assert answer["rendered"] == 0, answer
    return shape(answer["files"])


def fuzz(container: Container, **options: Any) -> None:
    slow = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example]
    before = container.taken.copy()
    one = given(CANDIDATES)(lambda candidates: judge(candidates, container))
    phases = (Phase.generate, Phase.shrink)
    settings(deadline=None, database=None, phases=phases, suppress_health_check=slow, **options)(one)()
    taken = container.taken - before
    assert taken["http"] > options["max_examples"] / 4, taken
    assert taken["https"] > options["max_examples"] / 10, taken


@pytest.mark.timeout(600)
def test_what_passes_the_checks_is_taken_by_nginx_and_adds_no_directive(container: Container) -> None:
    # The same examples each time.
    fuzz(container, max_examples=200, derandomize=True)


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_what_passes_the_checks_is_taken_by_nginx_whatever_else_is_tried(container: Container) -> None:
    fuzz(container, max_examples=2000, print_blob=True)
