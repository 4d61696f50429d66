"""Every test that tests/README.md names exists, every row names one, and a name means one test only."""

import ast
import re
from collections import Counter

from tests.support.docker import ROOT
from tests.support.order import LONGEST

TESTS = ROOT / "tests"
README = (TESTS / "README.md").read_text()
# Not a test of pytest's.
COMMAND = "tests/run.sh soak"


def rows() -> dict[str, list[str]]:
    """Fault to what judges it, from all tables of faults."""
    tables = re.findall(r"^\| fault \| tests \|\n\| --- \| --- \|\n((?:\|.*\n)+)", README, re.MULTILINE)
    found = re.findall(r"^\| (.*?) \| (.*) \|$", "".join(tables), re.MULTILINE)
    assert len({fault for fault, _ in found}) == len(found) > 50
    return {fault: re.findall(r"`([^`]+)`", named) for fault, named in found}


def existing() -> set[str]:
    """All tests, as the tables name them."""
    return {
        f"{module.stem}::{node.name}"
        for module in TESTS.glob("*/test_*.py")
        for node in ast.parse(module.read_text()).body
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    }


def test_each_fault_has_a_test_that_exists() -> None:
    table = rows()
    assert [fault for fault, named in table.items() if not named] == []
    assert {name for named in table.values() for name in named} - existing() - {COMMAND} == set()


def test_the_modules_that_are_begun_with_exist() -> None:
    assert set(LONGEST) <= {module.stem for module in TESTS.glob("*/test_*.py")}


def test_no_two_modules_have_the_same_name() -> None:
    """Tables name a test by its module's stem, wherever the module is."""
    stems = Counter(module.stem for module in TESTS.glob("*/test_*.py"))
    assert [stem for stem, times in stems.items() if times > 1] == []
