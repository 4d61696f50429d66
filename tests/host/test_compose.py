"""The shipped compose files, under Compose 1.29 and Compose 2."""

import os
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import yaml

from tests.support.compose import VERSIONS, Compose, Project, find_compose, left_of, plugin
from tests.support.docker import LABEL, ROOT, docker, inspect, run, unique
from tests.support.stack import Stack
from tests.support.tree import base_image, helper_image, host_ca
from tests.support.wait import free_port, wait_until

LOCAL = ROOT / "project/settings/local/docker-compose.yml"
EXAMPLE = ROOT / "project/settings/example/docker-compose.yml"
BUILD = ROOT / "dockerable/docker-compose-build-only.yml"
MEGABYTE = 1024 * 1024
FACILITY = "local0"


@pytest.fixture(scope="module", params=VERSIONS)
def compose(request: pytest.FixtureRequest) -> Compose:
    return find_compose(request.param)


@pytest.fixture(scope="module")
def local(compose: Compose) -> Iterator[Project]:
    """The local environment, up."""
    project = Project(compose, LOCAL)
    try:
        yield project.up()
    finally:
        project.remove()


@pytest.fixture(scope="module")
def syslog() -> Iterator[tuple[str, str]]:
    """A rsyslogd: its address, and the container that prints what it got."""
    name, port = unique("rsyslog"), free_port()
    publish = f"127.0.0.1:{port}:514"
    docker("run", "-d", "--name", name, "--label", LABEL, "-p", publish, helper_image("rsyslog"))
    wait_until(
        lambda: run("docker", "exec", name, "grep", "-q", ":0202 ", "/proc/net/tcp", check=False).returncode == 0
    )
    yield f"tcp://127.0.0.1:{port}", name
    docker("rm", "-f", name)


def check_hardening(container: str) -> None:
    found = inspect(container)
    host, config = found["HostConfig"], found["Config"]
    assert host["ReadonlyRootfs"] is True
    assert host["CapDrop"] == ["ALL"]
    assert not host["CapAdd"]
    assert host["Privileged"] is False
    assert host["SecurityOpt"] == ["no-new-privileges:true"]
    user, group = config["User"].split(":")
    assert user != "0" and group == "0"
    assert 0 < host["Memory"] <= 1024 * MEGABYTE
    assert 0 < host["PidsLimit"] <= 1024
    assert host["RestartPolicy"]["Name"] == "unless-stopped"
    # Long enough, says test_compose_files.py.
    assert f"{config['StopTimeout']}s" == yaml.safe_load(LOCAL.read_text())["services"]["web"]["stop_grace_period"]
    assert set(host["Tmpfs"]) == {"/run", "/tmp"}
    assert all("noexec" in options and "size=" in options for options in host["Tmpfs"].values())
    assert {mount["Destination"] for mount in found["Mounts"] if mount["RW"]} == {"/data"}
    inside = run("docker", "exec", container, "cat", "/proc/1/status").stdout
    fields = dict(line.split(":\t", 1) for line in inside.splitlines() if ":\t" in line)
    assert "0" not in fields["Uid"].split()
    assert {int(fields[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {0}
    assert fields["NoNewPrivs"] == "1"
    assert run("docker", "exec", container, "touch", "/app/x", check=False).returncode != 0


@pytest.mark.parametrize("file", [LOCAL, EXAMPLE, BUILD], ids=["local", "example", "build-only"])
def test_each_file_is_valid(compose: Compose, file: Path) -> None:
    done = compose.run("-f", file, "config", "-q")
    assert done.stdout + done.stderr == ""


def test_local_serves_on_loopback_only(local: Project) -> None:
    assert httpx.get(f"http://127.0.0.1:{local.port}/", trust_env=False).status_code == 200
    ports = inspect(local.container())["NetworkSettings"]["Ports"]
    bound = {(port, binding["HostIp"]) for port, bindings in ports.items() for binding in bindings or []}
    assert bound == {("8080/tcp", "127.0.0.1")}
    gateway = docker("network", "inspect", "bridge", "--format", "{{(index .IPAM.Config 0).Gateway}}")
    with pytest.raises(OSError), socket.create_connection((gateway, local.port), timeout=2):
        pass


def test_local_is_hardened(local: Project) -> None:
    check_hardening(local.container())
    logging = inspect(local.container())["HostConfig"]["LogConfig"]
    assert logging == {"Type": "json-file", "Config": {"max-size": "10m", "max-file": "3"}}


def test_data_survives_down_and_goes_with_down_volumes(local: Project) -> None:
    docker("exec", local.container(), "sh", "-c", "echo kept > /data/media/note.txt")
    sums = ("sha256sum", "/data/secret_key", "/data/media/note.txt")
    key = docker("exec", local.container(), *sums)
    local("down")
    assert len(left_of(local.name)) == 1
    local.up()
    assert docker("exec", local.container(), *sums) == key
    assert httpx.get(f"http://127.0.0.1:{local.port}/media/note.txt", trust_env=False).text == "kept\n"
    local("down", "--volumes")
    assert left_of(local.name) == []


def test_example_serves_with_a_key_and_logs_to_syslog(
    compose: Compose, syslog: tuple[str, str], tmp_path: Path
) -> None:
    address, daemon = syslog
    folder = tmp_path / "project/settings/example"
    shutil.copytree(EXAMPLE.parent, folder, ignore=shutil.ignore_patterns("__pycache__"))
    secrets = folder / "secrets.json"
    secrets.write_text(secrets.read_text().replace("change-me", "k" + os.urandom(30).hex()))
    # Group 0 reads it where this user is in that group, everybody else where not.
    secrets.chmod(0o640 if secrets.stat().st_gid == 0 else 0o644)
    project = Project(compose, folder / EXAMPLE.name, SYSLOG_ADDRESS=address)
    try:
        project.up()
        check_hardening(project.container())
        logging = inspect(project.container())["HostConfig"]["LogConfig"]
        assert logging["Type"] == "syslog"
        assert logging["Config"]["syslog-address"] == address
        path = f"/{unique('path')}"
        answer = httpx.get(
            f"http://127.0.0.1:{project.port}{path}", headers={"Host": "www.example.com"}, trust_env=False
        )
        assert answer.status_code == 404
        name = inspect(project.container())["Name"].lstrip("/")
        beginning = f"{FACILITY}.info {name} "

        def arrived(words: str) -> bool:
            log = run("docker", "logs", daemon).stdout
            return any(line.startswith(beginning) and words in line for line in log.splitlines())

        wait_until(lambda: arrived(path))
        assert arrived("cmd: project.settings.example.settings serves www.example.com")
        project("stop")
        wait_until(lambda: arrived("cmd: stopped"))
    finally:
        project.remove()


def test_the_build_only_file_builds(compose: Compose) -> None:
    tag = f"{unique('built')}:latest"
    # Its cache is the classic builder's, as is that of ctl; BuildKit has a test of its own.
    variables = {"IMAGE": tag, "BASE_IMAGE": base_image(), "HOST_CA": host_ca(), "DOCKER_BUILDKIT": "0"}
    variables |= {"SOURCE": "https://git.example.com/site", "REVISION": "0" * 40, "VERSION": "v1"}
    try:
        compose.run("-f", BUILD, "build", timeout=600, variables=variables)
        labels = inspect(tag)["Config"]["Labels"]
        assert labels["org.opencontainers.image.source"] == "https://git.example.com/site"
        assert labels["org.opencontainers.image.revision"] == "0" * 40
        assert labels["org.opencontainers.image.version"] == "v1"
        assert docker("run", "--rm", "--label", LABEL, tag, "id", "-u") == "10001"
    finally:
        docker("rmi", "--no-prune", tag, check=False)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_buildkit_builds_the_same_image(tmp_path: Path) -> None:
    tag = f"{unique('buildkit')}:latest"
    arguments = {"BASE_IMAGE": base_image(), "HOST_CA": host_ca()}
    words = [word for name in arguments for word in ("--build-arg", name)]
    stack = Stack(image=tag)
    try:
        run(
            *("docker", "buildx", "build", "--progress", "plain", "--load", "-t", tag, *words),
            *("-f", ROOT / "dockerable/Dockerfile", ROOT),
            env={**plugin("docker-buildx"), **arguments},
            timeout=800,
        )
        assert inspect(tag)["Config"]["User"] == "10001:0"
        assert inspect(tag)["Config"]["Healthcheck"]["Test"] == ["CMD", "healthcheck"]
        assert stack.up().get("/").status_code == 200
    finally:
        stack.remove()
        docker("rmi", tag, check=False)
