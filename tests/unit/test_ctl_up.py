"""What `ctl up` prints while a container starts and fails, with a docker command that only plays one."""

from pathlib import Path

import pytest

from tests.support.docker import ROOT, run

# The container runs until its first health check, which prints nothing, and has ended after it.
DOCKER = r"""#!/bin/sh
case "$*" in
    *' ps -a -q web') echo abc ;;
    *com.docker.compose.oneoff*) echo False ;;
    *State.Status*) if [ -e "$0.checked" ]; then echo exited; else echo running; fi ;;
    *'{{.RestartCount}}'*) echo 0 ;;
    exec*) touch "$0.checked"; exit 1 ;;
    events*) echo '70 1700000000000000000' ;;
    logs*) printf '%s\n' 'django: error: Traceback:\n  File "a.py"\nValueError' 'cmd: error: ended' ;;
esac
"""


def test_a_failed_start_shows_a_phase_and_a_traceback_in_lines(tmp_path: Path) -> None:
    docker = tmp_path / "docker"
    docker.write_text(DOCKER)
    docker.chmod(0o755)
    words = ("up", "local", "--no-build")
    told = run(ROOT / "dockerable/ctl", *words, check=False, env={"PATH": f"{tmp_path}:/usr/bin:/bin"})
    assert (told.returncode, told.stdout) == (70, "")
    lines = told.stderr.splitlines()
    assert "ctl: local: starting" in lines
    begin = lines.index("django: error: Traceback:")
    assert lines[begin + 1 : begin + 4] == ['      File "a.py"', "    ValueError", "cmd: error: ended"]


@pytest.mark.parametrize(
    "said",
    [
        "Bind for 0.0.0.0:80 failed: port is already allocated",
        "listen tcp4 127.0.0.1:8000: bind: address already in use",
    ],
)
def test_a_port_that_is_taken_is_the_likely_cause_with_its_remedy(said: str, tmp_path: Path) -> None:
    docker = tmp_path / "docker"
    docker.write_text(f"#!/bin/sh\ncase $* in *' up -d') echo '{said}' >&2; exit 1 ;; esac\n")
    docker.chmod(0o755)
    words = ("up", "local", "--no-build")
    told = run(
        ROOT / "dockerable/ctl",
        *words,
        check=False,
        env={"PATH": f"{tmp_path}:/usr/bin:/bin", "TMPDIR": str(tmp_path)},
    )
    assert told.returncode == 70
    *_, output, last = told.stderr.splitlines()
    assert output == said
    assert (
        "; likely cause: another program or container has the port (remedy: another HTTP_PORT or HTTPS_PORT in" in last
    )
