"""The cause that ctl names when a build fails, with a docker command that only plays one."""

from pathlib import Path

import pytest

from tests.support.docker import ROOT, run

FAILED = "Post-processing '{}' failed!\n\nTraceback (most recent call last):\n" + '  File "/app/manage.py"\n' * 30
MISSING = FAILED + "ValueError: The file '{}' could not be found with <…ManifestStaticFilesStorage object at 0x7f>.\n"
UNREADABLE = FAILED + "UnicodeDecodeError: 'utf-8' codec can't decode byte 0xff in position 15: invalid start byte\n"
BROKEN = 'Traceback (most recent call last):\n  File "/app/manage.py"\nSyntaxError: invalid syntax\n'


@pytest.mark.parametrize("prefix", ["", "#23 4.567 "])
@pytest.mark.parametrize(
    ("printed", "cause"),
    [
        (
            MISSING.format("start/start.css", "start/none/logo.png"),
            "the static file start/start.css refers to start/none/logo.png, which does not exist",
        ),
        (
            UNREADABLE.format("start/latin.css"),
            "the static file start/latin.css cannot be processed (the error is above)",
        ),
        (BROKEN, "the project does not load (the error is above)"),
    ],
    ids=["missing", "unreadable", "broken"],
)
def test_a_build_that_fails_names_the_static_file_or_else_the_project(
    tmp_path: Path, prefix: str, printed: str, cause: str
) -> None:
    (tmp_path / "printed").write_text("".join(prefix + line for line in printed.splitlines(keepends=True)))
    docker = tmp_path / "docker"
    docker.write_text('#!/bin/sh\ncase "$*" in build*|buildx*|*compose*build*) cat "${0%/*}/printed"; exit 1 ;; esac\n')
    docker.chmod(0o755)
    built = run(ROOT / "dockerable/ctl", "build", check=False, env={"PATH": f"{tmp_path}:/usr/bin:/bin"})
    assert built.returncode == 70
    end, _, log = built.stderr.splitlines()[-1].partition("; all of it: ")
    Path(log).unlink()
    assert end.partition("; likely cause: ")[2] == cause
