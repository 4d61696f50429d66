"""An environment over HTTPS by `ctl` and Compose alone, in a copy of the repository."""

import json
import os
import re
import secrets
import shutil
import ssl
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.acme import DIRECTORY, NAMES, Pebble
from tests.support.compose import VERSIONS, Compose, find_compose, left_of
from tests.support.docker import IMAGE, run, unique
from tests.support.http import parse, read_all
from tests.support.tls import connected
from tests.support.tree import copy_tree
from tests.support.wait import free_port, wait_until


class Shop:
    """The environment `shop`, made of `example` as the README says, on the network of a Pebble."""

    def __init__(self, tree: Path, pebble: Pebble, compose: Compose) -> None:
        self.tree, self.folder = tree, tree / "project/settings/shop"
        self.project = unique("shop")
        self.names, self.https_port, self.http_port = NAMES, free_port(), free_port()
        self.compose = compose
        self.variables = {
            **compose.variables,
            "IMAGE": IMAGE,
            "HTTP_PORT": str(self.http_port),
            "HTTPS_PORT": str(self.https_port),
            "NGINX_SERVER_NAME": " ".join(NAMES),
            "EMAIL_ADDRESS": "admin@example.test",
        }
        shutil.copytree(tree / "project/settings/example", self.folder)
        for name in ("docker-compose.yml", "docker-compose-ssl.yml"):
            self.edit(name, "example", "shop")
        (self.folder / ".env").write_text(f"COMPOSE_PROJECT_NAME={self.project}\n")
        (self.folder / "secrets.json").write_text(json.dumps({"secret_key": secrets.token_urlsafe(50)}))
        (self.folder / "secrets.json").chmod(0o640)
        if os.getuid() == 0:
            # The container's group must be able to write here; elsewhere it runs as the folder's owner.
            (self.folder / "letsencrypt").chmod(0o2770)
        else:
            self.edit("docker-compose.yml", "10001:0", f"{os.getuid()}:0")
        self.add(pebble)

    def edit(self, name: str, old: str, new: str) -> None:
        file = self.folder / name
        file.write_text(file.read_text().replace(f"settings.{old}", f"settings.{new}").replace(f"/{old}", f"/{new}"))
        file.write_text(file.read_text().replace(f": {old}", f": {new}").replace(f'"{old}"', f'"{new}"'))

    def add(self, pebble: Pebble) -> None:
        """What only a test wants: another authority, its network, a log without syslog."""
        file = self.folder / "docker-compose-ssl.yml"
        found = yaml.safe_load(file.read_text())
        web = found["services"]["web"]
        web["environment"] |= {"ACME_SERVER": DIRECTORY, "ACME_CA_BUNDLE": "/pki/ca.pem"}
        web["volumes"].append(f"{pebble.bundle}:/pki/ca.pem:ro")
        web["networks"] = {"acme": {"aliases": list(NAMES)}}
        web["logging"] = {"driver": "json-file", "options": {}}
        found["networks"] = {"acme": {"external": True, "name": pebble.network}}
        file.write_text(yaml.safe_dump(found))

    def ctl(self, *words: str) -> str:
        """What `ctl WORDS…` prints on stdout."""
        return run(self.tree / "dockerable/ctl", *words, env=self.variables, cwd=self.tree).stdout

    def certified(self) -> dict[str, Any] | None:
        """What `ctl cert` knows, once the first attempt has ended well."""
        found: dict[str, Any] = json.loads(self.ctl("cert", "shop", "--json"))
        return found if found["state"] == "ok" and not found["next_attempt"] else None

    def serial(self) -> str:
        with connected(self) as connection:  # type: ignore[arg-type]
            der = connection.getpeercert(binary_form=True)
        assert der
        return str(ssl.DER_cert_to_PEM_cert(der))


@pytest.mark.parametrize("version", ["1.29", pytest.param("2", marks=pytest.mark.slow)])
def test_an_environment_over_https_from_up_to_down(version: str, pebble: Pebble, tmp_path: Path) -> None:
    shop = Shop(copy_tree(tmp_path / "tree"), pebble, find_compose(version))
    try:
        said = shop.ctl("up", "shop", "--ssl", "--no-build")
        assert said == f"https://127.0.0.1:{shop.https_port}/\n"

        found = wait_until(shop.certified, 30)
        assert set(found["names"]) == set(found["stored"]["names"]) == set(NAMES)
        assert found["served"] == found["stored"]
        assert (found["source"], found["problem"], found["last_error"], found["next_attempt"]) == ("acme", "", "", None)
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", found["last_attempt"])

        text = shop.ctl("cert", "shop")
        assert re.search("^state +ok$", text, re.M)
        assert re.search(f"^served .*{found['served']['serial']}.*days left", text, re.M)
        assert re.search("^next attempt  when it is time to renew$", text, re.M)

        with connected(shop) as connection:  # type: ignore[arg-type]
            connection.sendall(
                f"GET / HTTP/1.1\r\nHost: {NAMES[1]}:{shop.https_port}\r\nConnection: close\r\n\r\n".encode()
            )
            assert parse(read_all(connection)).status == 200

        before = shop.serial()
        renewed = shop.ctl("cert", "shop", "--renew")
        assert found["served"]["serial"] not in renewed
        assert shop.serial() != before
        assert shop.serial() in (shop.folder / f"letsencrypt/live/{NAMES[0]}/fullchain.pem").read_text()
    finally:
        shop.ctl("down", "shop", "--volumes")
    assert left_of(shop.project) == []


@pytest.mark.parametrize("version", VERSIONS)
def test_the_compose_file_is_valid_and_has_what_the_other_one_has(version: str, tmp_path: Path) -> None:
    compose = find_compose(version)
    folder = copy_tree(tmp_path / "tree") / "project/settings/example"
    config = {
        name: yaml.safe_load(compose.run("-f", folder / f"{name}.yml", "config").stdout)["services"]["web"]
        for name in ("docker-compose", "docker-compose-ssl")
    }
    plain, ssl_ = config["docker-compose"], config["docker-compose-ssl"]
    for key in ("user", "read_only", "cap_drop", "security_opt", "tmpfs", "stop_grace_period", "labels", "logging"):
        assert ssl_[key] == plain[key], key
    assert ssl_["environment"].items() >= {**plain["environment"], "USE_SSL": "ON", "HTTPS_PORT": "443"}.items()
    assert sorted(re.findall(r"\b(?:8080|8443)\b", str(ssl_["ports"]))) == ["8080", "8443"]
    assert "/etc/letsencrypt" in str(ssl_["volumes"])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("up", "local", "--ssl"), "environment 'local' has no docker-compose-ssl.yml"),
        (("cert", "example", "--frob"), "cert has no option '--frob' (--json, --renew)"),
        (("cert",), "which environment? There are: "),
    ],
)
def test_what_cannot_be_is_refused(words: tuple[str, ...], said: str) -> None:
    done = run("dockerable/ctl", *words, check=False)
    assert (done.returncode, said in done.stderr) == (64, True)
