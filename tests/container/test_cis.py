"""The CIS Docker Benchmark's points for images (4) and containers (5); dockerable/SECURITY.md lists them all.

Each environment's container is made as Compose makes it, but not started: the engine tells what it would run.
"""

import ast
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.compose import Project, find_compose
from tests.support.docker import IMAGE, LABEL, ROOT, docker, inspect
from tests.support.stack import Stack

SECURITY = (ROOT / "dockerable/SECURITY.md").read_text()
DOCKERFILE = (ROOT / "dockerable/Dockerfile").read_text()
FILES = ("local/docker-compose.yml", "example/docker-compose.yml", "example/docker-compose-ssl.yml")
# Compose and our files decide these; whatever else comes to the environment's own folder and volumes.
PLACES = re.compile(r"/data|/etc/letsencrypt|/app/project/settings/\w+")
ROWS = re.findall(r"^\| ([45])\.(\d+) \|.*\| (.*) \|$", SECURITY, re.M)


def instructions(text: str) -> list[str]:
    """A Dockerfile's instructions, each on one line, without comments."""
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return "\n".join(lines).replace("\\\n", " ").splitlines()


@pytest.fixture(scope="module", params=FILES)
def made(request: pytest.FixtureRequest) -> Iterator[dict[str, Any]]:
    """docker inspect of a container that Compose has made of one shipped file."""
    settings = ROOT / "project/settings"
    project = Project(
        find_compose("2"), settings / request.param, HTTPS_PORT="8443", SYSLOG_ADDRESS="udp://127.0.0.1:514"
    )
    try:
        project("up", "--no-start")
        yield inspect(project("ps", "-a", "-q", "web"))
    finally:
        project.remove()


def test_every_point_names_a_test_that_exists() -> None:
    assert [(int(section), int(point)) for section, point, _ in ROWS] == [
        *((4, point) for point in range(1, 12)),
        *((5, point) for point in range(1, 32)),
    ]
    for section, point, proof in ROWS:
        for module, test in re.findall(r"`(test_\w+)::(test_\w+)`", proof):
            (file,) = ROOT.glob(f"tests/*/{module}.py")
            tree = ast.parse(file.read_text())
            assert test in [one.name for one in tree.body if isinstance(one, ast.FunctionDef)], f"{section}.{point}"
        assert "`test_" in proof or proof.startswith("yours"), f"{section}.{point}"


# 4.2
def test_the_base_is_debians_and_the_only_one() -> None:
    bases = [line.split()[1] for line in instructions(DOCKERFILE) if line.startswith("FROM ")]
    assert set(bases) == {"${BASE_IMAGE}"}
    assert "ARG BASE_IMAGE=debian:trixie-slim" in DOCKERFILE


# 4.7, 4.9, 4.11
def test_files_are_copied_packages_installed_in_one_step_and_nothing_is_fetched_otherwise() -> None:
    steps = instructions(DOCKERFILE)
    assert [step for step in steps if step.startswith("ADD ")] == []
    for step in steps:
        if "apt-get update" in step:
            assert re.search(r"apt-get update && apt-get install .*rm -rf /var/lib/apt/lists", step), step
        assert not re.search(r"\b(curl|wget|git clone|allow-unauthenticated|trusted=yes|no-check)\b", step), step
        for command in re.findall(r"pip (?:\S+ )*?(?:install|download) [^&;]*", step):
            # Plugins are named by whoever builds, in versions that no file of ours can have.
            assert "--require-hashes" in command or "$CERTBOT_PLUGINS" in command, command


# 4.10
def test_no_variable_or_argument_of_the_image_is_a_secret() -> None:
    secret = re.compile(r"SECRET|PASSWORD|PASSWD|TOKEN|CREDENTIAL|API_?KEY|PRIVATE", re.IGNORECASE)
    named = [variable.partition("=")[0] for variable in inspect(IMAGE)["Config"]["Env"]]
    named += re.findall(r"^(?:ARG|ENV) (\w+)", DOCKERFILE, re.M)
    assert [name for name in named if secret.search(name)] == []
    # The one that Django wants while it collects the static files.
    keys = re.findall(r"SECRET_KEY=(\S+)", DOCKERFILE)
    assert keys == ["unused"]
    assert "SECRET_KEY" not in docker("history", "--no-trunc", "--format", "{{.CreatedBy}}", IMAGE)


# 5.1, 5.2, 5.21, 5.25: nothing but no-new-privileges, so the engine's profiles hold.
def test_the_engines_own_profiles_are_not_switched_off(made: dict[str, Any]) -> None:
    assert made["HostConfig"]["SecurityOpt"] == ["no-new-privileges:true"]


# 5.21
def test_every_program_is_filtered_by_seccomp(new_stack: Callable[[Stack], Stack]) -> None:
    stack = new_stack(Stack(volume="none", command=["grep", "Seccomp:", "/proc/self/status"]))
    assert stack.start().wait_end() == 0
    assert stack.logs().split() == ["Seccomp:", "2"]


# 5.3, 5.4, 5.17, 5.22
def test_it_has_no_capabilities_privileges_or_devices(made: dict[str, Any]) -> None:
    host = made["HostConfig"]
    assert (host["CapDrop"], host["CapAdd"] or [], host["Privileged"]) == (["ALL"], [], False)
    assert not host["Devices"] and not host["DeviceRequests"] and not host["DeviceCgroupRules"]


# 5.5, 5.19, 5.31
def test_only_its_own_folder_and_volume_are_mounted(made: dict[str, Any]) -> None:
    for mount in made["Mounts"]:
        assert PLACES.fullmatch(mount["Destination"]), mount
        assert mount["Propagation"] in ("", "rprivate"), mount
        if mount["Type"] == "bind":
            assert Path(mount["Source"]).is_relative_to(ROOT / "project/settings"), mount
            assert mount["RW"] == (mount["Destination"] == "/etc/letsencrypt"), mount


# 5.7, 5.8, 5.13
def test_only_the_sites_ports_are_published(made: dict[str, Any]) -> None:
    published = made["HostConfig"]["PortBindings"]
    local = made["Config"]["Labels"]["dockerable.environment"] == "local"
    secure = "USE_SSL=ON" in made["Config"]["Env"]
    assert set(published) == ({"8080/tcp", "8443/tcp"} if secure else {"8080/tcp"})
    assert {binding["HostIp"] for bindings in published.values() for binding in bindings} == (
        {"127.0.0.1"} if local else {""}
    )


# 5.9, 5.15, 5.16, 5.20, 5.29, 5.30
def test_it_shares_no_namespace_with_the_host(made: dict[str, Any]) -> None:
    host = made["HostConfig"]
    assert host["NetworkMode"].endswith("_default")
    assert (host["PidMode"], host["UTSMode"], host["UsernsMode"]) == ("", "", "")
    assert host["IpcMode"] in ("", "private")


# 5.10, 5.12, 5.24, 5.28
def test_memory_and_processes_are_limited_and_the_root_is_read_only(made: dict[str, Any]) -> None:
    host = made["HostConfig"]
    assert 0 < host["Memory"] <= 1 << 30
    assert 0 < host["PidsLimit"] <= 1024
    assert host["ReadonlyRootfs"] is True
    assert host["CgroupParent"] == ""
    for options in host["Tmpfs"].values():
        assert {"noexec", "nosuid", "nodev"} < set(options.split(","))


# 5.14
def test_it_comes_back_after_a_reboot_and_no_stop_is_undone(made: dict[str, Any]) -> None:
    assert made["HostConfig"]["RestartPolicy"]["Name"] == "unless-stopped"


# 5.6
def test_there_is_no_ssh_server() -> None:
    look = "ls /usr/sbin/sshd /usr/sbin/dropbear /etc/ssh 2>/dev/null || :"
    assert docker("run", "--rm", "--label", LABEL, "--network", "none", IMAGE, "sh", "-c", look) == ""


# 5.26
def test_its_health_is_checked(made: dict[str, Any]) -> None:
    assert made["Config"]["Healthcheck"]["Test"] == ["CMD", "healthcheck"]
