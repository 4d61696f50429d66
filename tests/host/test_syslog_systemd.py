"""install-syslog.sh under systemd: the socket that outlives rsyslog, and the start of refused containers."""

import re
import shlex
from collections.abc import Callable, Iterator
from functools import partial

import pytest

from tests.support.docker import LABEL, ROOT, docker
from tests.support.syslog import COUNT, Source, SyslogHost, running
from tests.support.tree import helper_image
from tests.support.wait import wait_until

# The images and two boots take a minute.
pytestmark = pytest.mark.slow
# What systemd needs of --privileged.
RIGHTS = (
    "--cap-add=SYS_ADMIN",
    "--security-opt=apparmor=unconfined",
    "--security-opt=seccomp=unconfined",
    "--security-opt=systempaths=unconfined",
    "--tmpfs=/run",
    "--tmpfs=/run/lock",
    "--env=container=docker",
)
UNITS = ("dockerable-log.socket", "dockerable-start-refused.timer", "rsyslog.service", "syslog.socket")
# Neither the engine nor its command is there.
DOCKER = """
printf '#!/bin/sh\\necho "$*" >>/var/tmp/asked\\n' >/usr/local/bin/docker
chmod +x /usr/local/bin/docker
printf '[Service]\\nExecStart=/bin/sleep infinity\\n' >/etc/systemd/system/docker.service
printf '[Socket]\\nListenStream=/run/docker.sock\\n' >/etc/systemd/system/docker.socket
systemctl daemon-reload
systemctl start docker.socket
systemctl start docker.service
"""
BREAK = """
mkdir -p /run/systemd/system/rsyslog.service.d
printf '[Service]\\nExecStart=\\nExecStart=/bin/false\\n' >/run/systemd/system/rsyslog.service.d/broken.conf
systemctl daemon-reload
"""


class SystemdHost(SyslogHost):
    """A host that systemd runs."""

    def start(self) -> "SystemdHost":
        mounts = ("-v", f"{self.folder}:/var/lib/dockerable/dev", "-v", f"{ROOT / 'dockerable/host'}:/host:ro")
        words = ("run", "-d", "--name", self.name, "--label", LABEL, "--network", "none", *RIGHTS, *mounts)
        docker(*words, helper_image("systemd"))
        wait_until(lambda: self.run("systemctl", "is-system-running", check=False) in ("running", "degraded"), 60)
        self.shell(DOCKER)
        self.run("/host/install-syslog.sh")
        return self

    def is_active(self, unit: str) -> bool:
        return self.run("systemctl", "is-active", unit, check=False) == "active"

    def asked(self) -> int:
        """How often the host has looked for containers to start."""
        return len(self.read("/var/tmp/asked").splitlines())


@pytest.fixture(scope="module")
def host() -> Iterator[SystemdHost]:
    yield from running(SystemdHost)


@pytest.fixture(autouse=True)
def forget_starts(host: SystemdHost) -> None:
    """More than five in ten seconds are refused."""
    host.run("systemctl", "reset-failed", "rsyslog.service")


@pytest.fixture
def start(host: SystemdHost) -> Iterator[Callable[[str], Source]]:
    sources = []

    def start(command: str) -> Source:
        sources.append(Source(host.address, command))
        return sources[-1].start()

    yield start
    for source in sources:
        source.remove()


def test_all_is_active_and_ordered(host: SystemdHost) -> None:
    assert all(host.is_active(unit) for unit in UNITS)
    assert host.run("systemctl", "is-enabled", "dockerable-log.socket") == "enabled"
    assert host.run("systemctl", "is-enabled", "dockerable-start-refused.timer") == "enabled"
    before = set(host.run("systemctl", "show", "-P", "After", "docker.service").split())
    assert {"rsyslog.service", "dockerable-log.socket"} <= before
    assert host.run("stat", "-c", "%a %U", "/var/lib/dockerable/dev/log") == "600 root"
    assert host.run("systemctl", "--failed", "--no-legend") == ""


def test_restarts_of_rsyslog_lose_nothing(host: SystemdHost, start: Callable[[str], Source]) -> None:
    source = start(COUNT)
    for _ in range(2):
        came = len(host.numbers(source.name))
        host.run("systemctl", "restart", "rsyslog.service")
        wait_until(partial(lambda least: len(host.numbers(source.name)) > least + 300, came))
    printed = source.finish()
    wait_until(lambda: len(host.numbers(source.name)) == len(printed))
    assert host.numbers(source.name) == printed


def test_a_container_starts_while_rsyslog_is_stopped_and_wakes_it(
    host: SystemdHost, start: Callable[[str], Source]
) -> None:
    host.run("systemctl", "stop", "rsyslog.service")
    source = start("echo django: here")
    wait_until(lambda: "django.log" in host.files(source.name))
    assert host.is_active("rsyslog.service")


@pytest.mark.parametrize("way", ["restarted", "killed"])
def test_each_start_of_rsyslog_looks_for_refused_containers(host: SystemdHost, way: str) -> None:
    before = host.asked()
    command = ("restart",) if way == "restarted" else ("kill", "-s", "KILL")
    host.run("systemctl", *command, "rsyslog.service")
    wait_until(lambda: host.asked() > before)
    wait_until(lambda: host.is_active("rsyslog.service"))


@pytest.mark.timeout(240)
def test_refused_containers_are_looked_for_each_minute_where_an_engine_runs(host: SystemdHost) -> None:
    wait_until(lambda: host.run("systemctl", "is-active", "dockerable-start-refused.service", check=False) != "active")
    before = host.asked()
    wait_until(lambda: host.asked() > before, 80, every=1)
    told = host.run("journalctl", "-o", "cat", "-u", "dockerable-start-refused.service")
    assert "Started" not in told and "Finished" not in told
    host.run("systemctl", "stop", "docker.service")
    before = host.asked()
    host.run("systemctl", "start", "dockerable-start-refused.service")
    assert host.asked() == before
    assert host.run("systemctl", "--failed", "--no-legend") == ""
    assert not host.is_active("docker.service")
    host.run("systemctl", "start", "docker.service")


def test_logrotate_makes_rsyslog_write_to_the_new_file(host: SystemdHost, start: Callable[[str], Source]) -> None:
    source = start("echo cmd: before; while ! test -e /tmp/go; do sleep 0.1; done; echo cmd: after")
    wait_until(lambda: "cmd.log" in host.files(source.name))
    host.run("logrotate", "-f", "/etc/logrotate.d/dockerable")
    docker("exec", source.name, "touch", "/tmp/go")
    wait_until(lambda: "cmd.log" in host.files(source.name))
    found = host.files(source.name)
    assert [len(found[name]) for name in ("cmd.log", "cmd.log.1")] == [1, 1]


def test_the_filters_of_the_page_on_logs_find_their_lines_in_the_journal(host: SystemdHost) -> None:
    container = "project-prod_web_1"
    commands = re.findall(rf"^journalctl CONTAINER_NAME={container} .*$", (ROOT / "docs/logs.md").read_text(), re.M)
    of_nginx, failed, of_django = "nginx.error: error: a", "django: error: x [1]: b", '{"event.dataset":"django"}'
    others = ("django: c", 'nginx.access: ::1 "GET /?nginx.error: error: HTTP/1.1"', '{"event.dataset":"uwsgi"}')
    for line in (of_nginx, failed, of_django, *others):
        # What Docker's driver writes.
        fields = f"CONTAINER_NAME={container}\nPRIORITY=6\nMESSAGE={line}\n"
        host.shell(f"printf %s {shlex.quote(fields)} | logger --journald")
    wait_until(lambda: host.shell(f"journalctl -o cat CONTAINER_NAME={container} | wc -l") == "6")
    found = [host.shell(f"{command} -o cat").splitlines() for command in commands]
    assert found == [[of_nginx], [of_nginx, failed], [of_django]]


@pytest.mark.slow
def test_the_socket_is_back_when_rsyslog_was_broken_and_is_mended(
    host: SystemdHost, start: Callable[[str], Source]
) -> None:
    host.shell(BREAK)
    host.run("systemctl", "restart", "rsyslog.service", check=False)
    wait_until(lambda: not host.is_active("dockerable-log.socket"))
    host.shell("rm /run/systemd/system/rsyslog.service.d/broken.conf; systemctl daemon-reload")
    host.run("systemctl", "reset-failed", "rsyslog.service")
    host.run("systemctl", "restart", "rsyslog.service")
    wait_until(lambda: host.is_active("dockerable-log.socket"))
    source = start("echo cmd: mended")
    wait_until(lambda: "cmd.log" in host.files(source.name))


def test_a_second_run_restarts_nothing_and_undo_leaves_rsyslog_running(host: SystemdHost) -> None:
    daemon = host.run("systemctl", "show", "-P", "MainPID", "rsyslog.service")
    host.run("/host/install-syslog.sh")
    assert host.run("systemctl", "show", "-P", "MainPID", "rsyslog.service") == daemon
    for unit in ("dockerable-log.socket", "dockerable-start-refused.timer"):
        host.run("systemctl", "stop", unit)
        host.run("/host/install-syslog.sh")
        assert host.is_active(unit) and host.is_active("rsyslog.service")
    host.run("/host/install-syslog.sh", "--undo")
    assert host.is_active("rsyslog.service")
    assert not host.is_active("dockerable-log.socket")
    assert host.run("find", "/etc", "/usr/local/sbin", "-name", "*dockerable*") == ""
