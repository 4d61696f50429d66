"""Line ends of a checkout on a machine whose git writes Windows line ends (core.autocrlf=true)."""

import shutil
from pathlib import Path

import pytest

from tests.support.docker import ROOT, run


@pytest.mark.parametrize(
    ("attributes", "script"),
    [(".gitattributes", "tests/run.sh"), ("dockerable/.gitattributes", "dockerable/ctl")],
    ids=["in this repository", "in a project that dockerable/ was copied into"],
)
def test_a_checkout_under_autocrlf_has_scripts_that_a_shell_can_run(
    tmp_path: Path, attributes: str, script: str
) -> None:
    for name in (attributes, script):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    git = ("git", "-C", tmp_path, "-c", "core.autocrlf=true", "-c", "core.safecrlf=false")
    run(*git, "init", "-q")
    run(*git, "add", ".")
    (tmp_path / script).unlink()
    run(*git, "checkout", "--", ".")
    assert b"\r" not in (tmp_path / script).read_bytes()
