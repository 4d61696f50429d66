"""The host's syslog is restarted, stuck, rotated or gone: lost lines, and the restart of containers."""

from collections.abc import Callable, Iterator
from itertools import pairwise

import pytest

from tests.support.docker import ROOT, docker, inspect, run
from tests.support.syslog import COUNT, Source, SyslogHost, running
from tests.support.wait import wait_until

START_REFUSED = ROOT / "dockerable/host/start-refused.sh"
OURS = ("--label", "dockerable.environment=test", "--restart", "unless-stopped")


@pytest.fixture(scope="module")
def started() -> Iterator[SyslogHost]:
    yield from running(SyslogHost)


@pytest.fixture
def host(started: SyslogHost) -> Iterator[SyslogHost]:
    """The host, whose daemon runs again afterwards."""
    yield started
    if not started.runs():
        started.start_daemon()


@pytest.fixture
def make(host: SyslogHost) -> Iterator[Callable[..., Source]]:
    """A container that logs to the host, not started yet."""
    sources = []

    def make(command: str, *options: str) -> Source:
        sources.append(Source(host.address, command, options=options))
        return sources[-1].create()

    yield make
    for source in sources:
        source.remove()


@pytest.fixture
def start(make: Callable[..., Source]) -> Callable[..., Source]:
    """The same, started."""

    def start(command: str, *options: str) -> Source:
        source = make(command, *options)
        docker("start", source.name)
        return source

    return start


def wait_for(host: SyslogHost, source: Source, more: int = 300) -> None:
    """Until so many lines more have come."""
    least = len(host.numbers(source.name)) + more
    wait_until(lambda: len(host.numbers(source.name)) > least)


def test_a_restart_loses_nothing_where_the_socket_is_held_as_systemd_does(
    host: SyslogHost, start: Callable[..., Source]
) -> None:
    host.hold_socket()
    source = start(COUNT)
    wait_for(host, source)
    host.shell('kill -USR1 "$(cat /run/holder)"')
    wait_until(lambda: not host.runs())
    assert docker("ps", "-q", "--filter", f"name={source.name}")
    host.shell('kill -USR2 "$(cat /run/holder)"')
    wait_for(host, source)
    printed = source.finish()
    wait_until(lambda: len(host.numbers(source.name)) == len(printed))
    assert host.numbers(source.name) == printed
    host.release_socket()


def test_a_restart_elsewhere_loses_only_what_is_written_meanwhile(
    host: SyslogHost, start: Callable[..., Source]
) -> None:
    source = start(COUNT)
    wait_for(host, source)
    host.stop_daemon()
    host.start_daemon()
    wait_for(host, source)
    printed = source.finish()
    wait_until(lambda: host.numbers(source.name)[-1] == printed[-1])
    found = host.numbers(source.name)
    gaps = [(before, after) for before, after in pairwise(found) if after != before + 1]
    assert found[0] == 1 and len(gaps) <= 1, gaps


@pytest.mark.timeout(120)
def test_a_daemon_that_does_not_read_for_15_s_loses_nothing(host: SyslogHost, start: Callable[..., Source]) -> None:
    source = start(COUNT)
    wait_for(host, source)
    # What waits for it would hang docker stop and inspect too, so it goes on by itself.
    host.freeze(15).join()
    wait_for(host, source)
    printed = source.finish()
    wait_until(lambda: len(host.numbers(source.name)) == len(printed))
    assert host.numbers(source.name) == printed


def test_logrotate_loses_and_doubles_nothing(host: SyslogHost, start: Callable[..., Source]) -> None:
    source = start(COUNT)
    for _ in range(2):
        wait_for(host, source)
        host.run("logrotate", "-f", "/etc/logrotate.d/dockerable")
    wait_for(host, source)
    printed = source.finish()
    folder = f"/var/log/{source.name}"
    wait_until(lambda: host.numbers(source.name)[-1] == printed[-1])
    assert sorted(host.files(source.name)) == ["uwsgi.log", "uwsgi.log.1", "uwsgi.log.2.gz"]
    host.run("gunzip", f"{folder}/uwsgi.log.2.gz")
    found = [
        number for name in ("uwsgi.log.2", "uwsgi.log.1", "uwsgi.log") for number in host.numbers(source.name, name)
    ]
    assert found == printed
    assert host.run("stat", "-c", "%a %U %G", f"{folder}/uwsgi.log") == "640 root adm"


def test_logrotate_finds_nothing_wrong(host: SyslogHost) -> None:
    told = run("docker", "exec", host.name, "logrotate", "-d", "/etc/logrotate.conf")
    assert "error" not in told.stderr.replace("nginx.error.log", "")
    assert "dockerable" in told.stderr


def state(source: Source) -> str:
    return inspect(source.name)["State"]["Status"]


@pytest.mark.parametrize("way", ["stopped", "killed"])
def test_a_start_that_was_refused_is_made_good_when_syslog_is_back(
    host: SyslogHost, make: Callable[..., Source], way: str
) -> None:
    source = make("echo uwsgi: up; exec sleep 60", *OURS)
    # Killed, it leaves its socket.
    host.stop_daemon("-KILL" if way == "killed" else "-TERM")
    refused = run("docker", "start", source.name, check=False)
    assert "failed to initialize logging driver" in refused.stderr
    assert state(source) != "running"
    again = run(START_REFUSED, check=False)
    assert again.returncode == 70
    assert f"start-refused.sh: error: {source.name} is still refused: " in again.stderr
    host.start_daemon()
    mended = run(START_REFUSED)
    assert mended.stderr == f"start-refused.sh: started {source.name}, which was refused for want of its log\n"
    assert state(source) == "running"
    assert (run(START_REFUSED).stderr, state(source)) == ("", "running")
    wait_until(lambda: "uwsgi.log" in host.files(source.name))


def test_a_container_that_ends_while_syslog_is_down_is_back_when_it_is(
    host: SyslogHost, start: Callable[..., Source]
) -> None:
    source = start("echo uwsgi: up; while ! test -e /tmp/end; do sleep 0.1; done; exit 70", *OURS)
    host.stop_daemon()
    docker("exec", source.name, "touch", "/tmp/end")
    # The engine tries once, by the restart policy, and never again.
    wait_until(lambda: "logging driver" in inspect(source.name)["State"]["Error"] and state(source) == "exited")
    host.start_daemon()

    def cron() -> bool:
        run(START_REFUSED)
        return state(source) in ("running", "restarting")

    wait_until(cron, 60, every=2)


@pytest.mark.parametrize(
    "options",
    [
        ("--label", "dockerable.environment=test"),
        (*OURS, "--label", "com.docker.compose.oneoff=True"),
        ("--restart", "unless-stopped"),
    ],
    ids=["without a restart policy", "a one-off of Compose's", "not ours"],
)
def test_what_was_run_once_or_is_not_ours_is_left_alone(
    host: SyslogHost, make: Callable[..., Source], options: tuple[str, ...]
) -> None:
    source = make("exec sleep 60", *options)
    host.stop_daemon()
    assert run("docker", "start", source.name, check=False).returncode != 0
    host.start_daemon()
    assert source.name not in run(START_REFUSED).stderr
    assert state(source) != "running"


def test_one_that_was_stopped_or_failed_by_itself_is_left_alone(host: SyslogHost, start: Callable[..., Source]) -> None:
    source = start("exec sleep 60", *OURS)
    docker("stop", "-t", "0", source.name)
    assert source.name not in run(START_REFUSED).stderr
    assert state(source) == "exited"
