"""VARIABLES.md and the README's short table say what the table of variables says."""

import re

import pytest

from dockerable.container import variables, variables_page
from dockerable.container.variables import VARIABLES
from tests.support.docker import ROOT

PAGE = ROOT / "dockerable/VARIABLES.md"


def test_the_page_is_made_from_the_table() -> None:
    assert PAGE.read_text() == variables_page.page(), (
        "remedy: python3 -m dockerable.container.variables_page >dockerable/VARIABLES.md"
    )


def test_every_variable_is_on_the_page_once() -> None:
    assert re.findall(r"^\| `([A-Z_0-9]+)` \|", PAGE.read_text(), re.MULTILINE) == list(VARIABLES)


@pytest.mark.parametrize("name", VARIABLES)
def test_defaults_and_examples_pass_their_own_check(name: str) -> None:
    variable = VARIABLES[name]
    for value in (variable.default if isinstance(variable.default, str) else "", variable.example):
        assert not value or variable.check(value) == value
    assert variable.description.endswith(".")


def test_defaults_that_depend_on_others_stand_below_them() -> None:
    values = {"NGINX_SERVER_NAME": "a.test"}
    for variable in variables.CONTAINER.values():
        values.setdefault(variable.name, variable.default_of(values))
    assert set(values) == set(variables.CONTAINER)
