"""The law of the layout: which Python runs a file decides what the file may import."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.docker import ROOT

HOUSE = ROOT / "dockerable"
# What each room may import beside the standard library.
LAW = {
    "container": {"dockerable.container"},
    "cli": {"dockerable.container", "dockerable.cli"},
    "certificates": {"dockerable.container", "dockerable.certificates", "configobj", "cryptography"},
    "supervision": {"dockerable.container", "dockerable.supervision", "supervisor"},
    "ops": {"dockerable.container", "dockerable.ops", "django"},
    "application": {"dockerable.container", "dockerable.ops", "dockerable.application", "django"}
    # The module that hosts uWSGI, and what a project may bring along.
    | {"pyuwsgi", "uwsgi", "pydantic_settings"},
}
MOST_LINES = 400


def imported(file: Path) -> Iterator[str]:
    """The modules that a file imports, anywhere in it."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: a relative import"
            yield from ([f"dockerable.{alias.name}" for alias in node.names] if node.module == "dockerable" else [])
            yield node.module or ""


def allowed(name: str, others: set[str]) -> bool:
    return name.partition(".")[0] in {*sys.stdlib_module_names, "__future__"} or any(
        f"{name}.".startswith(f"{other}.") for other in others
    )


@pytest.mark.parametrize("room", LAW)
def test_a_room_imports_what_its_python_has(room: str) -> None:
    files = [*(HOUSE / room).rglob("*.py")]
    assert len(files) > 1
    wrong = {
        (file.name, name)
        for file in files
        for name in imported(file)
        if name != "dockerable" and not allowed(name, LAW[room])
    }
    assert wrong == set()


def test_every_python_file_is_in_a_room() -> None:
    others = {file.relative_to(HOUSE).as_posix() for file in HOUSE.rglob("*.py")} - {
        file.relative_to(HOUSE).as_posix() for room in LAW for file in (HOUSE / room).rglob("*.py")
    }
    assert others == {"__init__.py", "settings.py"}


def test_no_module_is_too_long_to_be_read_whole() -> None:
    lengths = {file: len(file.read_text().splitlines()) for file in HOUSE.rglob("*.py")}
    assert {file.name: lines for file, lines in lengths.items() if lines > MOST_LINES} == {}


def test_launchers_say_which_interpreter_runs_which_module() -> None:
    pythons = {
        "container": "#!/usr/bin/python3 -IS",
        "certificates": "#!/opt/dockerable/bin/python3",
        "supervision": "#!/opt/dockerable/bin/python3",
        "application": "#!/opt/app/bin/python3",
    }
    for launcher in (HOUSE / "bin").iterdir():
        lines = launcher.read_text().splitlines()
        (module,) = [name for name in imported(launcher) if name.startswith("dockerable.")]
        _, room, name = module.split(".")
        assert lines[0] == pythons[room], launcher.name
        assert (HOUSE / room / f"{name}.py").is_file()
        assert len(lines) <= 12 and launcher.stat().st_mode & 0o111 == 0o111, launcher.name
