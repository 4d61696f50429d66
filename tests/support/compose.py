"""Compose 1.29 and Compose 2: whichever is installed, and Debian trixie's package for the other."""

import json
import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.support.docker import IMAGE, LABEL, ROOT, docker, run, unique, until_healthy
from tests.support.tree import base_image
from tests.support.wait import free_port

PLUGINS = ROOT / "tests/.cache/plugins"
VERSIONS = ("1.29", "2")
KINDS = {"container": ("ps", "-aq"), "network": ("network", "ls", "-q"), "volume": ("volume", "ls", "-q")}
REMOVE = {"container": ("rm", "-f", "-v"), "network": ("network", "rm"), "volume": ("volume", "rm", "-f")}
FETCH = """
exec >&2
cd /tmp
apt-get -q update
apt-get -q download "$0"
dpkg-deb -x "$0"_*.deb unpacked
# Another test process may be executing the file that is there: replaced by a rename, not overwritten.
install -m 0755 -o "$1" "unpacked/usr/libexec/docker/cli-plugins/$0" "/cli-plugins/.$0.$HOSTNAME"
mv "/cli-plugins/.$0.$HOSTNAME" "/cli-plugins/$0"
"""


def plugin(name: str) -> dict[str, str]:
    """Debian trixie's package `name`, a plugin of the docker command; the variables that make docker see it alone.

    Fetched once, in a container, into a folder of its own: `docker build` changes its builder where it sees buildx.
    """
    config = PLUGINS / name
    found = config / "cli-plugins" / name
    if not found.exists():
        found.parent.mkdir(parents=True, exist_ok=True)
        mount = f"{found.parent}:/cli-plugins"
        words = ["run", "--rm", "--label", LABEL, "-v", mount, base_image(), "sh", "-ec", FETCH, name, str(os.getuid())]
        docker(*words, timeout=300)
    # The caller chooses the engine by its docker context, which the private configuration folder lacks.
    chosen = run("docker", "context", "inspect", "--format", "{{json .Endpoints.docker.Host}}", check=False)
    host = os.environ.get("DOCKER_HOST") or json.loads(chosen.stdout or '""')
    return {"DOCKER_CONFIG": str(config), **({"DOCKER_HOST": host} if host else {})}


@dataclass(frozen=True)
class Compose:
    """A Compose: its command, and the variables with which it (or ctl, which calls it) runs."""

    version: str
    command: tuple[str, ...]
    variables: Mapping[str, str] = field(default_factory=dict)

    def run(
        self,
        *words: str | Path,
        check: bool = True,
        timeout: float = 120,
        variables: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run Compose with further variables. Raises AssertionError if it fails and `check` is set."""
        return run(*self.command, *words, check=check, timeout=timeout, env={**self.variables, **(variables or {})})


def find_compose(version: str) -> Compose:
    """Compose of one of VERSIONS; skips the test where it cannot be had."""
    if version == "2":
        installed = run("docker", "compose", "version", check=False).returncode == 0
        return Compose("2", ("docker", "compose"), {} if installed else plugin("docker-compose"))
    try:
        found = run("docker-compose", "version", "--short", check=False).stdout
    except FileNotFoundError:
        found = ""
    if not found.startswith("1."):
        pytest.skip("Compose 1.29 is not installed, and Debian trixie has none")
    return Compose("1.29", ("docker-compose",))


def left_of(project: str) -> list[str]:
    """The containers, networks and volumes of a Compose project."""
    return [name for kind in KINDS for name in of(project, kind)]


def of(project: str, kind: str) -> list[str]:
    """What a Compose project has of one of KINDS."""
    return docker(*KINDS[kind], "--filter", f"label=com.docker.compose.project={project}").split()


def remove_project(project: str) -> None:
    """Remove what a Compose project has, at once: how it stops is not what is judged."""
    for kind, command in REMOVE.items():
        if found := of(project, kind):
            docker(*command, *found)
    assert left_of(project) == []


class Project:
    """One environment's compose file under a project name and a port of its own."""

    def __init__(self, compose: Compose, file: Path, **variables: str) -> None:
        self.compose, self.file = compose, file
        self.name, self.port = unique("compose"), free_port()
        own = {"COMPOSE_PROJECT_NAME": self.name, "HTTP_PORT": str(self.port), "IMAGE": IMAGE}
        self.variables = {**own, **variables}

    def __call__(self, *words: str, check: bool = True) -> str:
        """What `compose -f FILE WORDS…` prints on stdout, stripped."""
        return self.compose.run("-f", self.file, *words, check=check, variables=self.variables).stdout.strip()

    def up(self) -> "Project":
        """Run `up -d` and wait until the container is healthy."""
        self("up", "-d")
        assert until_healthy(self.container(), 60), docker("logs", self.container())
        return self

    def container(self) -> str:
        """The id of its container."""
        (found,) = of(self.name, "container")
        return found

    def remove(self) -> None:
        """Remove all of it, whatever happened."""
        remove_project(self.name)
