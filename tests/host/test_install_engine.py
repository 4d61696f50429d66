"""dockerable/host/install-engine.sh on bare hosts, played by containers that get an engine."""

import re
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).resolve().parents[2] / "dockerable" / "host"
INSTALL = "/install-engine.sh"
BASES = ("dockerable-base:trixie", "debian:trixie-slim")
# What an engine needs of --privileged, which itself is refused where the outer engine lacks a
# capability. A volume, since overlay does not stack on a container's own file system.
ENGINE_RIGHTS = (
    "--cap-add=SYS_ADMIN",
    "--cap-add=NET_ADMIN",
    "--security-opt=apparmor=unconfined",
    "--security-opt=seccomp=unconfined",
    "--security-opt=systempaths=unconfined",
    "--volume=/var/lib/docker",
)
MAKE_BOOKWORM = """
exec 3>&1 >&2
apt-get -q update
apt-get -q -y install --no-install-recommends mmdebstrap
mmdebstrap --quiet --variant=minbase --include=systemd-sysv,dbus bookworm - \
    'deb http://deb.debian.org/debian bookworm main' >&3
"""
BOOT_SYSTEMD = """
for path in $(awk '$2 ~ "^/sys/fs/cgroup" { print $2 }' /proc/mounts); do
    mount -o remount,bind,rw "$path"
done
exec /sbin/init
"""


@dataclass(frozen=True)
class Result:
    """What a command in a host gave: exit status, and both output streams in one text."""

    status: int
    text: str


@dataclass(frozen=True)
class Host:
    """A container that plays a host."""

    name: str

    def run(self, command: str) -> Result:
        """Run a shell command in it, as its container's user."""
        shell = ["docker", "exec", self.name, "sh", "-c", f"exec 2>&1; {command}"]
        done = subprocess.run(shell, capture_output=True, text=True, timeout=300)
        return Result(done.returncode, done.stdout + done.stderr)

    def output(self, command: str) -> str:
        """Return what a shell command, which must succeed, prints."""
        result = self.run(command)
        assert result.status == 0, result.text
        return result.text.strip()

    def stop_engine(self) -> None:
        """End the engine inside and wait until it is gone."""
        engine = self.output("cat /run/docker.pid")
        self.output(f"kill {engine}")
        wait_until(lambda: self.run(f"grep -q ') [^Z]' /proc/{engine}/stat").status != 0, 20)


def wait_until(predicate: Callable[[], bool], timeout: float) -> None:
    """Ask until the answer is true; fail after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while not predicate():
        assert time.monotonic() < deadline, f"not true after {timeout} s"
        time.sleep(0.2)


@contextmanager
def a_host(image: str, *options: str, command: str = "exec sleep infinity") -> Iterator[Host]:
    """Start a container as a host; afterwards remove it and its volumes, whatever happened."""
    name = f"dockerable-test-host-{uuid.uuid4().hex[:12]}"
    script = f"--volume={SCRIPTS / 'install-engine.sh'}:{INSTALL}:ro"
    start = ["docker", "run", "--detach", "--name", name, "--label=dockerable.test", script, *options, image]
    try:
        subprocess.run([*start, "sh", "-c", command], check=True, capture_output=True, timeout=60)
        yield Host(name)
    finally:
        subprocess.run(["docker", "rm", "--force", "--volumes", name], capture_output=True, timeout=60)


@pytest.fixture(scope="module")
def base() -> str:
    """Return the name of an image of a bare Debian trixie."""
    for image in BASES:
        inspect = ["docker", "image", "inspect", image]
        if subprocess.run(inspect, capture_output=True).returncode == 0:
            return image
    subprocess.run([SCRIPTS / "bootstrap-base.sh", BASES[0]], check=True)
    return BASES[0]


@pytest.fixture(scope="module")
def bare(base: str) -> Iterator[tuple[Host, Result]]:
    """Yield a host without systemd, and what the installer's first run on it gave."""
    # an init that reaps, as every host has: a dead engine would look alive to its init script
    with a_host(base, *ENGINE_RIGHTS, "--init") as host:
        yield host, host.run(INSTALL)


@pytest.fixture
def trixie(bare: tuple[Host, Result]) -> Iterator[Host]:
    """Yield that host with its engine running, and leave it as it was."""
    host, _ = bare
    assert host.run("docker info").status == 0
    yield host
    host.run("rm -f /etc/docker/daemon.json; kill -CONT $(cat /run/docker.pid)")
    host.output(INSTALL)


@pytest.fixture(scope="module")
def bookworm(base: str) -> Iterator[str]:
    """Yield the name of an image of a Debian bookworm with systemd, made for these tests only."""
    name = f"dockerable-test-bookworm-{uuid.uuid4().hex[:12]}"
    image = f"{name}:latest"
    make = [
        "docker",
        "run",
        "--name",
        name,
        "--label=dockerable.test",
        *ENGINE_RIGHTS,
        base,
        "sh",
        "-euc",
        MAKE_BOOKWORM,
    ]
    try:
        with subprocess.Popen(make, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as made:
            subprocess.run(
                ["docker", "import", "-", image],
                stdin=made.stdout,
                check=True,
                capture_output=True,
                timeout=300,
            )
        yield image
    finally:
        subprocess.run(["docker", "rm", "--force", "--volumes", name], capture_output=True)
        subprocess.run(["docker", "rmi", "--force", image], capture_output=True)


def test_bare_host_gets_an_answering_engine_and_compose(bare: tuple[Host, Result]) -> None:
    host, first = bare
    assert first.status == 0, first.text
    assert host.output("docker info --format '{{.Driver}}'") == "overlay2"
    assert host.output("docker compose version --short").startswith("2.")
    lines = first.text.splitlines()
    assert all(line.startswith("install-engine.sh: ") for line in lines), first.text
    assert re.search(r"installing .*docker\.io.*: done in \d+ s", first.text)
    assert "error" not in first.text.replace("ulimit: error setting limit", "")
    assert re.search(r"Docker Engine \S+ answers; Compose \S+; storage driver overlay2", first.text)
    assert "usermod -aG docker NAME" in lines[-1]


def test_second_run_changes_nothing(trixie: Host) -> None:
    state = "dpkg-query -W; cat /run/docker.pid; wc -c /var/log/docker.log /var/log/dpkg.log"
    before = trixie.output(state)
    again = trixie.run(INSTALL)
    assert again.status == 0, again.text
    assert "is there already and answers" in again.text
    assert "installing" not in again.text
    assert trixie.output(state) == before


@pytest.mark.parametrize("init_script", ["fails", "works"])
def test_stopped_engine_is_started(trixie: Host, init_script: str) -> None:
    if init_script == "works":  # it raises limits, which these containers may not
        trixie.output("sed -i 's/ulimit -.*/:/' /etc/init.d/docker")
    trixie.stop_engine()
    installed = trixie.output("dpkg-query -W")
    started = trixie.run(INSTALL)
    assert started.status == 0, started.text
    assert "installing" not in started.text
    assert ("which no boot will repeat" in started.text) == (init_script == "fails")
    assert trixie.run("docker info").status == 0
    assert trixie.output("dpkg-query -W") == installed


@pytest.mark.slow
def test_engine_in_the_middle_of_stopping_is_started_again(trixie: Host) -> None:
    started = trixie.run(f"kill $(cat /run/docker.pid); {INSTALL}")
    assert started.status == 0, started.text
    assert trixie.run("docker info").status == 0


@pytest.mark.slow
def test_engine_that_was_killed_is_started_again(trixie: Host) -> None:
    started = trixie.run(f"kill -KILL $(cat /run/docker.pid); sleep 1; {INSTALL}")
    assert started.status == 0, started.text
    assert trixie.run("docker info").status == 0


def test_missing_compose_is_added_to_a_running_engine(trixie: Host) -> None:
    trixie.output("dpkg --remove --force-depends docker-compose")
    engine = trixie.output("cat /run/docker.pid")
    added = trixie.run(INSTALL)
    assert added.status == 0, added.text
    assert "docker.io" not in added.text
    assert trixie.run("docker compose version").status == 0
    assert trixie.output("cat /run/docker.pid") == engine


def test_engine_that_ends_shows_its_log_and_the_cause(trixie: Host) -> None:
    trixie.stop_engine()
    trixie.output("mkdir -p /etc/docker; echo '{' >/etc/docker/daemon.json")
    ended = trixie.run(INSTALL)
    assert ended.status == 70, ended.text
    assert "unable to configure the Docker daemon" in ended.text
    assert ended.text.strip().endswith("likely cause: /etc/docker/daemon.json is not valid")


@pytest.mark.slow
def test_engine_without_its_rights_says_privileged(trixie: Host) -> None:
    trixie.stop_engine()
    ended = trixie.run(f"setpriv --bounding-set=-net_admin,-sys_admin {INSTALL}")
    assert ended.status == 70, ended.text
    assert "--privileged" in ended.text.splitlines()[-1]


@pytest.mark.slow
def test_storage_driver_vfs_is_remarked_on(trixie: Host) -> None:
    trixie.stop_engine()
    trixie.output('echo \'{"storage-driver": "vfs"}\' >/etc/docker/daemon.json')
    started = trixie.run(INSTALL)
    trixie.stop_engine()
    assert started.status == 0, started.text
    assert "storage driver vfs" in started.text
    assert "a volume at /var/lib/docker" in started.text


@pytest.mark.slow
def test_engine_that_hangs_ends_the_wait(trixie: Host) -> None:
    trixie.output("kill -STOP $(cat /run/docker.pid)")
    hung = trixie.run(INSTALL)
    assert hung.status == 75, hung.text
    assert "dockerd runs and has not answered" in hung.text.splitlines()[-1]


def test_sudo_is_used_and_the_group_is_told_and_not_given(trixie: Host) -> None:
    trixie.output(
        "apt-get -q -y install --no-install-recommends sudo && useradd alice &&"
        " echo 'alice ALL=(ALL) NOPASSWD: ALL' >/etc/sudoers.d/alice"
    )
    trixie.stop_engine()
    started = trixie.run(f"setpriv --reuid=alice --init-groups --regid=alice {INSTALL}")
    assert started.status == 0, started.text
    assert trixie.run("docker info").status == 0
    assert started.text.splitlines()[-1].endswith("usermod -aG docker alice")
    assert trixie.output("id -nG alice") == "alice"
    trixie.output("usermod -aG docker alice")
    again = trixie.run(f"setpriv --reuid=alice --init-groups --regid=alice {INSTALL}")
    assert again.status == 0, again.text
    assert "sudo" not in again.text


def test_sudo_that_refuses_is_said(trixie: Host) -> None:
    trixie.output("apt-get -q -y install --no-install-recommends sudo && useradd bob")
    trixie.stop_engine()
    refused = trixie.run(f"setpriv --reuid=bob --init-groups --regid=bob setsid -w {INSTALL}")
    assert refused.status == 77, refused.text
    assert f'sudo sh "{INSTALL}"' in refused.text.splitlines()[-1]


def test_docker_host_that_points_elsewhere_is_said(trixie: Host) -> None:
    result = trixie.run(f"DOCKER_HOST=tcp://192.0.2.1:2375 {INSTALL}")
    assert result.status == 0, result.text
    assert "unset DOCKER_HOST" in result.text
    assert "is there already and answers" in result.text


@pytest.mark.parametrize(
    ("release", "status", "said"),
    [
        ('ID=fedora\nID_LIKE=""\n', 69, "https://docs.docker.com/engine/install/"),
        ("ID=arch\n", 69, "neither Debian nor Ubuntu but arch"),
        ("", 69, "but unknown"),
        ("ID=debian\n", 77, f"su -c 'sh \"{INSTALL}\"'"),
        ('ID=linuxmint\nID_LIKE="ubuntu debian"\n', 77, f"su -c 'sh \"{INSTALL}\"'"),
    ],
    ids=["fedora", "arch", "empty", "debian", "derivative"],
)
def test_ordinary_user_is_refused_with_the_remedy(
    base: str, tmp_path: Path, release: str, status: int, said: str
) -> None:
    file = tmp_path / "os-release"
    file.write_text(release)
    with a_host(base, f"--volume={file}:/etc/os-release:ro", "--user=1000:1000") as host:
        refused = host.run(INSTALL)
    assert refused.status == status, refused.text
    assert said in refused.text
    assert len(refused.text.splitlines()) == 1


def test_argument_is_refused(base: str) -> None:
    with a_host(base) as host:
        refused = host.run(f"{INSTALL} --yes")
    assert refused.status == 64
    assert "it takes no argument" in refused.text


def test_host_without_network_is_told_so(base: str) -> None:
    with a_host(base, "--network=none") as host:
        failed = host.run(INSTALL)
    assert failed.status == 70, failed.text
    assert "Temporary failure resolving" in failed.text
    assert "the package mirror is out of reach" in failed.text.splitlines()[-1]


@pytest.mark.slow
def test_bookworm_under_systemd_gets_compose_1(bookworm: str) -> None:
    tmpfs = ("--tmpfs=/run", "--tmpfs=/run/lock", "--env=container=docker")
    with a_host(bookworm, *ENGINE_RIGHTS, *tmpfs, command=BOOT_SYSTEMD) as host:
        wait_until(lambda: host.run("systemctl is-system-running").text.strip() == "running", 60)
        first = host.run(INSTALL)
        assert first.status == 0, first.text
        assert host.output("docker-compose version --short") == "1.29.2"
        assert host.output("systemctl is-enabled docker.service").endswith("enabled")

        host.output("systemctl stop docker.socket docker.service")
        started = host.run(INSTALL)
        assert started.status == 0, started.text
        assert "starting docker.service" in started.text
        assert host.run("docker info").status == 0

        host.output("systemctl stop docker.socket docker.service; systemctl mask docker.service")
        masked = host.run(INSTALL)
        assert masked.status == 70, masked.text
        assert "systemctl unmask" in masked.text.splitlines()[-1]
