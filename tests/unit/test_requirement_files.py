"""The compiled requirement files: complete, hashed, and of the same versions."""

from pathlib import Path

import pytest

from tests.support.requirement_files import asked_for, pins


@pytest.mark.parametrize(
    ("source", "compiled"),
    [
        ("requirements.in", "requirements.txt"),
        ("dockerable/build/requirements-tools.in", "dockerable/build/requirements-tools.txt"),
        ("tests/requirements.in", "tests/requirements.txt"),
    ],
)
def test_requirements_are_compiled_from_what_is_asked_for(source: str, compiled: str) -> None:
    pinned, asked = pins(compiled), asked_for(source)
    assert [name for name, (_, hashes, _) in pinned.items() if not hashes] == []
    assert [
        name for name, (requirement, _, _) in pinned.items() if not str(requirement.specifier).startswith("==")
    ] == []
    assert {name for name, (_, _, files) in pinned.items() if files & {source, Path(source).name}} == set(asked)
    for name, requirement in asked.items():
        version = str(pinned[name][0].specifier).removeprefix("==")
        assert requirement.specifier.contains(version), f"{compiled} has {name} {version}, {source} asks {requirement}"


def test_the_tests_use_the_versions_of_the_image() -> None:
    image, tests = pins("requirements.txt"), pins("tests/requirements.txt")
    assert {name: str(tests[name][0].specifier) for name in image} == {
        name: str(requirement.specifier) for name, (requirement, _, _) in image.items()
    }
