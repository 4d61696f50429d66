"""The mirrors that bootstrap-base.sh uses; apt, mmdebstrap and docker are stand-ins that record their arguments."""

import os
from pathlib import Path

import pytest

from tests.support.docker import ROOT, run

# What `apt-get indextargets` prints, with a mirror of the host's own and a repository that is nobody's mirror.
DEBIAN = """\
Debian-Security http://mirror.test/debian-security/
Debian http://mirror.test/debian/
Debian http://mirror.test/debian/
Docker http://docker.test/debian/
"""
UBUNTU = "Ubuntu http://mirror.test/ubuntu/\n"


def sources(tmp_path: Path, targets: str, **variables: str) -> list[str]:
    """The lines of sources that mmdebstrap is given; none where it is left to its default."""
    programs = {
        "apt-get": f"cat <<'TARGETS'\n{targets}TARGETS",
        # Its options come first, then the suite, the file to make, and the sources.
        "mmdebstrap": f'while [ "$1" != trixie ]; do shift; done\n[ $# = 2 ] || cat "$3" >{tmp_path}/sources',
        "docker": "exit 0",
        # Tools that this host lacks would be installed, by the stand-in of apt-get.
        "id": "echo 0",
    }
    for name, script in programs.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / name).chmod(0o755)
    done = run(
        ROOT / "dockerable/host/bootstrap-base.sh",
        "made:here",
        env={"DEBIAN_MIRROR": "", "PATH": f"{tmp_path}:{os.environ['PATH']}", **variables},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    given = tmp_path / "sources"
    return given.read_text().splitlines() if given.exists() else []


@pytest.mark.parametrize(
    ("targets", "variables", "mirror"),
    [
        (DEBIAN, {}, ("http://mirror.test/debian/", "http://mirror.test/debian-security/")),
        (DEBIAN, {"DEBIAN_MIRROR": "http://own.test"}, ("http://own.test/debian", "http://own.test/debian-security")),
        (UBUNTU, {"DEBIAN_MIRROR": "http://own.test"}, ("http://own.test/debian", "http://own.test/debian-security")),
    ],
    ids=["the host's", "one that is named", "one that is named, on another system"],
)
def test_packages_come_from_the_hosts_own_mirror_or_the_one_that_is_named(
    tmp_path: Path, targets: str, variables: dict[str, str], mirror: tuple[str, str]
) -> None:
    archive, security = mirror
    assert sources(tmp_path, targets, **variables) == [
        f"deb {archive} trixie main",
        f"deb {archive} trixie-updates main",
        f"deb {security} trixie-security main",
    ]


@pytest.mark.parametrize("targets", [UBUNTU, "Debian http://mirror.test/debian/\n", ""])
def test_a_host_that_knows_no_whole_mirror_leaves_it_to_mmdebstrap(tmp_path: Path, targets: str) -> None:
    assert sources(tmp_path, targets) == []
