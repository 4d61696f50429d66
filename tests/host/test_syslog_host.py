"""The host's log and ours do not disturb each other: blocked rules, bursts, rotation, shutdown."""

import re
from collections import defaultdict
from collections.abc import Iterator

import pytest

from tests.support.docker import docker, unique
from tests.support.syslog import Source, SyslogHost, running
from tests.support.wait import wait_until

# Lines of so many containers that rsyslog opens a file for each: slower than they come.
CONTAINERS, EACH = 600, 25
BURST = f"""
import socket
record = b"<134>1 2026-11-21T12:00:00.000000Z host burst%d 1 burst%d - uwsgi: %d"
to = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
to.connect("/var/lib/dockerable/dev/log")
for number in range({EACH}):
    for container in range({CONTAINERS}):
        to.send(record % (container, container, number))
"""
# A remote syslog server that refuses, and that the host wants to wait for.
REMOTE = '*.* action(type="omfwd" target="127.0.0.1" port="1" protocol="tcp" action.resumeRetryCount="-1")'
ROTATE = "logrotate /etc/logrotate.d/dockerable"
A_DAY_LATER = rf"sed -i -E '1!s/ [0-9:-]+$/ 2026-1-1-0:0:0/' /var/lib/logrotate/status; {ROTATE}"


@pytest.fixture(scope="module")
def host() -> Iterator[SyslogHost]:
    yield from running(SyslogHost)


@pytest.fixture
def source(host: SyslogHost) -> Iterator[Source]:
    """A container that prints a line, and another one when the test releases it."""
    source = Source(host.address, "echo cmd: before; while ! test -e /tmp/go; do sleep 0.1; done; echo cmd: after")
    yield source
    source.remove()


@pytest.fixture
def stuck(host: SyslogHost) -> Iterator[None]:
    """The host's own rules hang."""
    host.shell(f"echo '{REMOTE}' >/etc/rsyslog.d/50-remote.conf")
    host.stop_daemon()
    host.start_daemon()
    for number in range(20):
        host.run("logger", "-u", "/var/lib/dockerable/dev/dev-log", f"line {number}")
    yield
    host.run("rm", "/etc/rsyslog.d/50-remote.conf")
    host.stop_daemon("-KILL")
    host.shell("rm -f /run/rsyslogd.pid")
    host.start_daemon()


def test_a_remote_target_of_the_hosts_that_hangs_holds_up_nothing(
    host: SyslogHost, stuck: None, source: Source
) -> None:
    source.start()
    wait_until(lambda: "cmd.log" in host.files(source.name))


@pytest.mark.timeout(240)
def test_a_restart_in_a_burst_loses_nothing_and_keeps_the_order(host: SyslogHost) -> None:
    host.hold_socket()
    host.run("python3", "-c", BURST)
    host.restart_held()
    wait_until(host.runs)
    count = "cat /var/log/burst*/uwsgi.log | wc -l"
    wait_until(lambda: int(host.shell(count)) == CONTAINERS * EACH, 60, every=0.5)
    found = defaultdict(list)
    for name, number in re.findall(r"^/var/log/(burst\d+)/.* (\d+)$", host.shell("grep -r . /var/log/burst*"), re.M):
        found[name].append(int(number))
    assert set(map(tuple, found.values())) == {tuple(range(EACH))}
    host.release_socket()
    host.start_daemon()


def test_lines_from_dev_log_are_the_hosts_own_where_nobody_asked_for_them(host: SyslogHost) -> None:
    word = unique("word")
    source = Source(host.dev_log, f"echo cmd: {word}")
    try:
        source.start()
        wait_until(lambda: word in host.read("/var/log/syslog"))
        assert host.files(source.name) == {}
    finally:
        source.remove()


def test_files_of_the_same_names_that_are_other_programs_are_left_to_them(host: SyslogHost, source: Source) -> None:
    source.start()
    wait_until(lambda: "cmd.log" in host.files(source.name))
    host.shell("mkdir /var/log/aaa /var/log/bbb; echo x | tee /var/log/aaa/cmd.log >/var/log/bbb/cmd.log")
    host.shell("printf '/var/log/aaa/cmd.log {\\n rotate 1\\n}\\n' >/etc/logrotate.d/aaa")
    told = host.shell("logrotate -f /etc/logrotate.d 2>&1")
    assert told == ""
    assert host.run("ls", "/var/log/aaa", "/var/log/bbb").split() == [
        "/var/log/aaa:",
        "cmd.log.1",
        "/var/log/bbb:",
        "cmd.log",
    ]
    assert {"cmd.log", "cmd.log.1"} == set(host.files(source.name))
    host.shell("rm -r /var/log/aaa /var/log/bbb /etc/logrotate.d/aaa")


@pytest.mark.slow
def test_a_quiet_log_is_gone_after_two_weeks_and_written_on(host: SyslogHost, source: Source) -> None:
    source.start()
    wait_until(lambda: "cmd.log" in host.files(source.name))
    folder = f"/var/log/{source.name}"
    host.shell(ROTATE)
    host.shell(f"for day in $(seq 14); do {A_DAY_LATER}; done")
    assert host.shell(f"zgrep -h . {folder}/*").endswith(" info before")
    host.shell(A_DAY_LATER)
    assert host.shell(f"zgrep -h . {folder}/* || true") == ""
    docker("exec", source.name, "touch", "/tmp/go")
    wait_until(lambda: host.read(f"{folder}/cmd.log").endswith(" info after"))
    assert host.run("stat", "-c", "%a %U %G", f"{folder}/cmd.log") == "640 root adm"
