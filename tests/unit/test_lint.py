"""Linters and type checker, and strings that no file may contain."""

import re
import sys
from pathlib import Path

import pytest

from tests.support.docker import ROOT, run
from tests.support.tree import files

BIN = Path(sys.executable).parent
# Paths that only the machine of an author has.
MACHINE = re.compile(r"/(?:work|tmp/team|home/[a-z]\w*|Users/\w+)/")


def text(name: str) -> str:
    return (ROOT / name).read_text(errors="replace")


def with_interpreter(pattern: str) -> list[str]:
    return [name for name in files() if re.match(rf"#!.*\b({pattern})\b", text(name))]


def programs() -> list[str]:
    """Python programs without a suffix, which mypy does not find by itself."""
    return [name for name in with_interpreter(r"python3?") if not name.endswith(".py")]


COMMANDS = {
    "ruff check": lambda: ["ruff", "check"],
    "ruff format": lambda: ["ruff", "format", "--check"],
    "mypy": lambda: ["mypy"],
    "mypy of programs": lambda: ["mypy", "--scripts-are-modules", *programs()],
    "shellcheck": lambda: ["shellcheck", "--norc", *with_interpreter("sh|bash|dash")],
    "hadolint": lambda: ["hadolint", *(name for name in files() if "Dockerfile" in Path(name).name)],
    "yamllint": lambda: ["yamllint", "--strict", *(name for name in files() if name.endswith((".yml", ".yaml")))],
}


@pytest.mark.parametrize("tool", COMMANDS)
def test_the_tool_finds_nothing(tool: str) -> None:
    program, *arguments = COMMANDS[tool]()
    run(BIN / program, *arguments)


def test_there_is_something_to_judge() -> None:
    """A linter that gets no files would pass too."""
    names = files()
    assert {"dockerable/Dockerfile", "dockerable/docker-compose-build-only.yml"} <= set(names)
    assert {"dockerable/ctl", "dockerable/cmd.sh", "tests/run.sh"} <= set(with_interpreter("sh"))
    assert {"dockerable/bin/init", "dockerable/bin/application"} <= set(programs())


def test_no_tool_is_told_to_look_away_from_a_shell_script() -> None:
    switch = re.compile(r"#\s*(shellcheck|hadolint)\s+(disable|ignore)")
    assert [name for name in files() if switch.search(text(name)) and not name.endswith(".py")] == []


def test_no_file_names_a_path_of_the_machine_it_was_written_on() -> None:
    allowed = "tests/unit/test_lint.py"
    found = [
        f"{name}:{number}: {line.strip()}"
        for name in files()
        if name != allowed
        for number, line in enumerate(text(name).splitlines(), 1)
        if MACHINE.search(line)
    ]
    assert found == []
