"""What dockerable/host/ installs for rsyslog, read as text: its programs are the log's, its scripts any shell's."""

import re

from dockerable.container.relay import TAGS
from tests.support.docker import ROOT, run
from tests.support.syslog import PROGRAMS


def test_every_file_that_lists_the_programs_lists_the_same() -> None:
    folder = ROOT / "dockerable/host"
    rules = re.search(r"\$\.program == \[(.*)\]", (folder / "rsyslog.conf").read_text())
    rotated = re.findall(
        r"^/var/log/\*/\.dockerable/\.\./(.*)\.log$", (folder / "logrotate.conf").read_text(), re.MULTILINE
    )
    listed = re.search(r"^PROGRAMS='(.*)'$", (ROOT / "dockerable/ctl").read_text(), re.MULTILINE)
    assert rules and listed
    assert tuple(re.findall(r'"(.*?)"', rules[1])) == PROGRAMS
    assert tuple(rotated) == (*PROGRAMS, "other")
    assert tuple(listed[1].split()) == PROGRAMS
    assert set(TAGS) == set(PROGRAMS)


def test_shell_scripts_run_under_any_posix_shell() -> None:
    folder = ROOT / "dockerable/host"
    for script in ("install-syslog.sh", "start-refused.sh"):
        assert run("dash", "-n", folder / script).stderr == ""
