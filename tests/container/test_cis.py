"""The CIS Docker Benchmark's points for images (4) and containers (5); dockerable/SECURITY.md lists them all.

Each environment's container is made as Compose makes it, but not started: the engine tells what it would run.
"""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.compose import Project, find_compose
from tests.support.docker import IMAGE, LABEL, ROOT, docker, inspect
from tests.support.secret_names import SECRET
from tests.support.stack import Stack

FILES = ("local/docker-compose.yml", "example/docker-compose.yml", "example/docker-compose-ssl.yml")
# The only places where the shipped compose files may mount something.
PLACES = re.compile(r"/data|/etc/letsencrypt|/app/project/settings/\w+")


@pytest.fixture(scope="module", params=FILES)
def made(request: pytest.FixtureRequest) -> Iterator[dict[str, Any]]:
    """docker inspect of a container that Compose has made of one shipped file."""
    settings = ROOT / "project/settings"
    project = Project(
        find_compose("2"), settings / request.param, HTTPS_PORT="8443", SYSLOG_ADDRESS="udp://127.0.0.1:514"
    )
    try:
        project("up", "--no-start")
        yield inspect(project.container())
    finally:
        project.remove()


# 4.10
def test_no_variable_or_argument_of_the_image_is_a_secret() -> None:
    named = [variable.partition("=")[0] for variable in inspect(IMAGE)["Config"]["Env"]]
    assert [name for name in named if SECRET.search(name)] == []
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
