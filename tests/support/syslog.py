"""A host with the shipped rsyslog, and containers that log to it through Docker's syslog driver."""

import re
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import yaml

from tests.support.docker import LABEL, ROOT, docker, unique
from tests.support.tree import base_image, helper_image
from tests.support.wait import wait_until

# The tags of the log's lines, in the order in which the files of dockerable/host/ and ctl have them.
PROGRAMS = ("nginx.access", "nginx.error", "uwsgi", "django", "certbot", "supervisor", "cmd")
EXAMPLE = ROOT / "project/settings/example/docker-compose.yml"
# Numbers the lines of uwsgi, about a thousand a second, until Source.finish.
COUNT = 'perl -e \'$| = 1; until (-e q(/tmp/end)) { print "uwsgi: ", ++$n, "\\n"; select undef, undef, undef, 0.001 }\''
RUNS = 'test -e "/proc/$(cat /run/rsyslogd.pid || echo none)/exe"'


Host = TypeVar("Host", bound="SyslogHost")


class SyslogHost:
    """A container that plays the host, where install-syslog.sh has run; its sockets are in `folder`, a short path."""

    # The socket that install-syslog.sh sets up.
    options: tuple[str, ...] = ()

    def __init__(self, folder: Path) -> None:
        self.folder, self.name = folder, unique("syslog")
        self.address = f"unixgram://{folder}/log"
        # Where the host's own programs log.
        self.dev_log = f"unixgram://{folder}/dev-log"

    def start(self) -> "SyslogHost":
        mounts = ("-v", f"{self.folder}:/var/lib/dockerable/dev", "-v", f"{ROOT / 'dockerable/host'}:/host:ro")
        # Debian's imuxsock, with its socket where the engine can reach it; the kernel's log is not ours.
        setup = 's,"imuxsock",& SysSock.Name="/var/lib/dockerable/dev/dev-log",; /imklog/d'
        words = ("run", "-d", "--init", "--name", self.name, "--label", LABEL, "--network", "none", *mounts)
        docker(*words, helper_image("rsyslog"), "sleep", "infinity")
        self.run("sed", "-i", setup, "/etc/rsyslog.conf")
        self.run("/host/install-syslog.sh", *self.options)
        self.start_daemon()
        return self

    def run(self, *command: str, check: bool = True) -> str:
        """What a command on it prints."""
        return docker("exec", self.name, *command, check=check)

    def shell(self, command: str, check: bool = True) -> str:
        return self.run("sh", "-c", command, check=check)

    def start_daemon(self) -> None:
        self.run("rsyslogd")
        wait_until(self.runs)

    def stop_daemon(self, signal: str = "-TERM") -> None:
        self.shell(f'kill {signal} "$(cat /run/rsyslogd.pid)"')
        wait_until(lambda: not self.runs())

    def runs(self) -> bool:
        """Whether the daemon runs and its socket is there."""
        return bool(self.shell(f"{RUNS} && ls /var/lib/dockerable/dev/log", check=False))

    def hold_socket(self) -> None:
        """Hold the socket as systemd does, with a daemon started on it."""
        self.stop_daemon()
        run = "echo $$ >/run/holder; exec hold-socket /var/lib/dockerable/dev/log"
        docker("exec", "-d", self.name, "sh", "-c", run)
        wait_until(self.runs)

    def restart_held(self) -> None:
        """What `systemctl restart` does, while the socket is held."""
        self.shell('kill -USR1 "$(cat /run/holder)"')
        wait_until(lambda: not self.runs(), 60)
        self.shell('kill -USR2 "$(cat /run/holder)"')

    def release_socket(self) -> None:
        """Neither socket nor daemon is there afterwards."""
        self.shell('kill "$(cat /run/holder)"; rm /var/lib/dockerable/dev/log')
        self.stop_daemon()

    def freeze(self, seconds: float) -> threading.Timer:
        """Freeze the daemon; it goes on after this many seconds, whatever happens in the test."""
        self.shell('kill -STOP "$(cat /run/rsyslogd.pid)"')
        timer = threading.Timer(seconds, self.shell, ['kill -CONT "$(cat /run/rsyslogd.pid)"'])
        timer.start()
        return timer

    def read(self, path: str) -> str:
        """The text of a file on it; nothing where there is none."""
        return self.run("cat", path, check=False)

    def files(self, container: str) -> dict[str, list[str]]:
        """File name to lines, of all that was written for one container."""
        names = self.run("ls", f"/var/log/{container}", check=False).split()
        return {name: self.read(f"/var/log/{container}/{name}").splitlines() for name in names}

    def numbers(self, container: str, name: str = "uwsgi.log") -> list[int]:
        """The numbers of COUNT that came into one file."""
        # The last line may be incomplete.
        return [
            int(number) for number in re.findall(r"^\S+ info (\d+)$", self.read(f"/var/log/{container}/{name}"), re.M)
        ]

    def remove(self) -> None:
        docker("rm", "-f", "-v", self.name, check=False)


def running(kind: Callable[[Path], Host]) -> Iterator[Host]:
    """A started host of this kind, removed afterwards."""
    # pytest's own folders are too long: a Unix socket's path may have 108 bytes.
    with tempfile.TemporaryDirectory(prefix="syslog") as folder:
        host = kind(Path(folder))
        try:
            host.start()
            yield host
        finally:
            host.remove()


class Source:
    """A container whose command prints lines, logged as the shipped compose file says."""

    def __init__(
        self, address: str, command: str, *, name: str = "", tag: str = "", options: Sequence[str | Path] = ()
    ) -> None:
        logging = yaml.safe_load(EXAMPLE.read_text())["services"]["web"]["logging"]
        logging["options"]["syslog-address"] = address
        if tag:
            logging["options"]["tag"] = tag
        self.name = name or unique("source")
        chosen = [f"--log-opt={key}={value}" for key, value in logging["options"].items()]
        driver = ("--log-driver", logging["driver"], *chosen)
        self.words = ("--name", self.name, "--label", LABEL, "--network", "none", *driver, *options)
        self.command = ("sh", "-c", command)

    def create(self) -> "Source":
        """Make the container; the engine then looks for the address's file, but for no listener."""
        docker("create", *self.words, base_image(), *self.command)
        return self

    def start(self) -> "Source":
        docker("run", "-d", *self.words, base_image(), *self.command)
        return self

    def finish(self) -> list[int]:
        """End COUNT; the numbers that it has printed."""
        docker("exec", self.name, "touch", "/tmp/end")
        assert docker("wait", self.name) == "0"
        return list(range(1, int(docker("logs", "--tail", "1", self.name).split()[-1]) + 1))

    def remove(self) -> None:
        docker("rm", "-f", "-v", self.name, check=False)
