"""dockerable/host/install-syslog.sh on hosts without systemd, played by containers."""

from collections.abc import Iterator

import pytest

from tests.support.docker import LABEL, ROOT, docker, run, unique
from tests.support.tree import base_image, helper_image
from tests.support.wait import wait_until

INSTALL = "/host/install-syslog.sh"
DEV_LOG = "/etc/rsyslog.d/11-dockerable-dev-log.conf"
# Debian's package has none.
INIT = "/etc/init.d/rsyslog"
INSTALLED = {
    "/etc/cron.d/dockerable": "cron.conf",
    "/etc/logrotate.d/dockerable": "logrotate.conf",
    "/etc/rsyslog.d/10-dockerable.conf": "rsyslog.conf",
    "/usr/local/sbin/dockerable-start-refused": "start-refused.sh",
}


class Host:
    """A container with dockerable/host/ in it, and rsyslog where the image has it."""

    def __init__(self, image: str) -> None:
        self.name = unique("install")
        mount = f"{ROOT / 'dockerable/host'}:/host:ro"
        words = ("--network", "none", "--label", LABEL, "-v", mount, image, "sleep", "infinity")
        docker("run", "-d", "--init", "--name", self.name, *words)

    def run(self, *command: str, user: str = "0") -> tuple[int, str]:
        """Status and output of a command."""
        done = run("docker", "exec", "-u", user, self.name, *command, check=False)
        return done.returncode, done.stdout + done.stderr

    def shell(self, command: str) -> str:
        """What a command that must succeed prints."""
        return docker("exec", self.name, "sh", "-c", command)

    def state(self) -> str:
        """Every file outside /proc that is not as the image has it, with its time."""
        return self.shell("find /etc /usr /var -xdev -type f -newer /proc/1/cmdline -printf '%p %T@ %m\\n' | sort")

    def installed(self) -> list[str]:
        """The same without what the daemon writes."""
        return [line for line in self.state().splitlines() if not line.startswith("/var/log/")]

    def start_daemon(self) -> None:
        self.shell("rsyslogd 2>/dev/null")
        wait_until(lambda: self.run("test", "-S", "/var/lib/dockerable/dev/log")[0] == 0)

    def start_older(self) -> None:
        """Install what is not of this version, and start it."""
        self.run(INSTALL)
        self.start_daemon()
        self.shell("echo '# older' >>/etc/logrotate.d/dockerable")

    def make_init(self, *lines: str) -> None:
        """A script that starts rsyslog, which does these lines when it is called."""
        self.shell(f"cat >{INIT} <<'END'\n" + "\n".join(("#!/bin/sh", 'echo "$1" >>/called', *lines)) + "\nEND")
        self.shell(f"chmod +x {INIT}")

    def remove(self) -> None:
        docker("rm", "-f", "-v", self.name, check=False)


@pytest.fixture
def host() -> Iterator[Host]:
    host = Host(helper_image("rsyslog"))
    yield host
    host.remove()


@pytest.fixture
def bare() -> Iterator[Host]:
    host = Host(base_image())
    yield host
    host.remove()


def test_one_command_installs_everything_and_a_second_changes_nothing(host: Host) -> None:
    status, told = host.run(INSTALL)
    assert status == 0, told
    for target, source in INSTALLED.items():
        assert f"install-syslog.sh: wrote {target}\n" in told
        assert host.shell(f"cat {target}") == (ROOT / "dockerable/host" / source).read_text().strip()
    assert "restart rsyslogd now" in told
    assert "unixgram:///var/lib/dockerable/dev/log get /var/log/CONTAINER/PROGRAM.log" in told.splitlines()[-1]
    host.start_daemon()
    before = host.installed()
    assert host.run(INSTALL) == (0, "install-syslog.sh: all is installed already\n")
    assert host.installed() == before


def test_lines_from_dev_log_are_taken_only_where_they_are_asked_for(host: Host) -> None:
    host.run(INSTALL)
    assert host.run("test", "-e", DEV_LOG)[0] == 1
    status, told = host.run(INSTALL, "--dev-log")
    assert status == 0
    assert f"install-syslog.sh: wrote {DEV_LOG}\n" in told
    assert "so do those that log to unixgram:///dev/log" in told
    host.shell(f"echo '# older' >{DEV_LOG}")
    assert f"wrote {DEV_LOG}\n" in host.run(INSTALL)[1]
    assert f"removed {DEV_LOG}\n" in host.run(INSTALL, "--undo")[1]


def test_an_older_file_is_replaced(host: Host) -> None:
    host.run(INSTALL)
    host.shell("echo '# older' >/etc/rsyslog.d/10-dockerable.conf")
    status, told = host.run(INSTALL)
    assert status == 0
    assert [line for line in told.splitlines() if "wrote" in line] == [
        "install-syslog.sh: wrote /etc/rsyslog.d/10-dockerable.conf"
    ]


def test_rsyslog_is_restarted_by_its_own_script(host: Host) -> None:
    host.make_init("rsyslogd 2>/dev/null")
    assert host.run(INSTALL)[0] == 0
    wait_until(lambda: host.run("test", "-S", "/var/lib/dockerable/dev/log")[0] == 0)
    assert host.run(INSTALL)[0] == 0
    assert host.shell("cat /called") == "restart"


@pytest.mark.parametrize("end", ["exit 1", "kill -KILL $PPID"], ids=["rsyslog did not start", "it was interrupted"])
def test_what_was_not_finished_is_finished_by_a_second_run(host: Host, end: str) -> None:
    host.start_older()
    host.make_init(end)
    assert host.run(INSTALL)[0] != 0
    host.make_init()
    status, told = host.run(INSTALL)
    assert status == 0, told
    assert "all is installed already" not in told
    assert host.shell("cat /called") == "restart\nrestart"
    assert host.run(INSTALL) == (0, "install-syslog.sh: all is installed already\n")


def test_a_second_run_restarts_rsyslog_where_its_socket_is_not_there(host: Host) -> None:
    host.make_init()
    host.run(INSTALL)
    assert "all is installed already" not in host.run(INSTALL)[1]
    assert host.shell("cat /called") == "restart\nrestart"


def test_undo_takes_everything_away_but_the_logs(host: Host) -> None:
    before = {line.split()[0] for line in host.state().splitlines()}
    host.run(INSTALL)
    host.shell("mkdir /var/log/web; echo x >/var/log/web/django.log")
    status, told = host.run(INSTALL, "--undo")
    assert status == 0, told
    after = {line.split()[0] for line in host.state().splitlines()}
    assert after - before == {"/var/log/web/django.log"}
    assert host.run("test", "-e", "/var/lib/dockerable")[0] == 1
    assert host.run(INSTALL, "--undo") == (0, "")


def test_an_undo_that_was_not_finished_is_finished_by_a_second_one(host: Host) -> None:
    host.run(INSTALL)
    host.make_init("kill -KILL $PPID")
    assert host.run(INSTALL, "--undo")[0] != 0
    host.make_init()
    assert host.run(INSTALL, "--undo")[0] == 0
    assert host.shell("cat /called") == "restart\nrestart"
    assert host.run("test", "-e", "/var/lib/dockerable")[0] == 1


def test_the_cron_line_runs_what_is_installed(host: Host) -> None:
    host.run(INSTALL)
    lines = [line for line in host.shell("cat /etc/cron.d/dockerable").splitlines() if line[0] in "*P"]
    path, line = lines
    assert line.startswith("* * * * * root ")
    command = line.split(" root ")[1].split(" 2>&1 | logger ")[0]
    assert host.shell(f"{path} command -v {command}") == "/usr/local/sbin/dockerable-start-refused"
    assert host.shell("stat -c '%a %U' /etc/cron.d/dockerable") == "644 root"


@pytest.mark.parametrize("system", ["/run", "/run/systemd/system"], ids=["without systemd", "with systemd"])
def test_a_configuration_that_rsyslog_refuses_is_taken_away_again(host: Host, system: str) -> None:
    host.shell(f"mkdir -p {system}; sed -i /imuxsock/d /etc/rsyslog.conf")
    before = host.state()
    status, told = host.run(INSTALL)
    assert status == 70
    assert "rsyslogd -N1 refuses the configuration (above)" in told.splitlines()[-1]
    assert "imuxsock" in told
    assert "taken away again" in told.splitlines()[-1]
    assert host.state() == before
    folders = ("/var/lib/dockerable", "/etc/systemd/system/rsyslog.service.d")
    assert all(host.run("test", "-e", folder)[0] == 1 for folder in folders)


def test_an_older_file_is_put_back_when_rsyslog_refuses_the_new_one(host: Host) -> None:
    host.run(INSTALL)
    host.shell("echo '# older' >/etc/rsyslog.d/10-dockerable.conf; echo 'nonsense(' >/etc/rsyslog.d/99-host.conf")
    assert host.run(INSTALL)[0] == 70
    assert host.shell("cat /etc/rsyslog.d/10-dockerable.conf") == "# older"
    assert host.run("test", "-e", "/etc/logrotate.d/dockerable")[0] == 0


def test_what_was_there_before_an_interrupted_run_is_put_back_too(host: Host) -> None:
    host.run(INSTALL)
    host.shell("echo '# older' >/etc/rsyslog.d/10-dockerable.conf")
    host.make_init("kill -KILL $PPID")
    assert host.run(INSTALL)[0] != 0
    host.shell("echo 'nonsense(' >/etc/rsyslog.d/99-host.conf")
    assert host.run(INSTALL)[0] == 70
    assert host.shell("cat /etc/rsyslog.d/10-dockerable.conf") == "# older"


def test_a_configuration_that_reads_no_folder_is_refused_with_the_line_to_add(host: Host) -> None:
    host.shell("sed -i /IncludeConfig/d /etc/rsyslog.conf")
    status, told = host.run(INSTALL)
    assert status == 70
    assert 'add include(file="/etc/rsyslog.d/*.conf")' in told


def test_a_host_without_rsyslog_is_told_so(bare: Host) -> None:
    before = bare.state()
    status, told = bare.run(INSTALL)
    assert status == 69
    assert "there is no rsyslogd (remedy: apt-get install rsyslog logrotate)" in told
    assert bare.state() == before


@pytest.mark.parametrize(
    ("words", "user", "status", "said"),
    [
        (["--yes"], "0", 64, "it takes --dev-log, --undo or nothing, not '--yes'"),
        (["--undo", "x"], "0", 64, "it takes --dev-log, --undo or nothing"),
        ([], "1000", 77, f"sudo {INSTALL}"),
    ],
    ids=["another word", "two words", "not root"],
)
def test_it_refuses(bare: Host, words: list[str], user: str, status: int, said: str) -> None:
    told = bare.run(INSTALL, *words, user=user)
    assert told[0] == status
    assert said in told[1]
