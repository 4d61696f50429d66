"""The points of the CIS Docker Benchmark: dockerable/SECURITY.md says what holds, tests/CIS.md which test proves it."""

import ast
import re

from tests.support.docker import ROOT

SECURITY = (ROOT / "dockerable/SECURITY.md").read_text()
PROOFS = (ROOT / "tests/CIS.md").read_text()
ROWS = re.findall(r"^\| ([45])\.(\d+) \|.*\| (.*) \|$", PROOFS, re.M)


def test_both_pages_list_the_same_points() -> None:
    points = re.findall(r"^\| ([45]\.\d+ \| .*?) \|", PROOFS, re.M)
    assert re.findall(r"^\| ([45]\.\d+ \| .*?) \|", SECURITY, re.M) == points


def test_what_is_said_beside_the_benchmark_stands_in_the_page_and_is_proved() -> None:
    others = re.findall(r"^\| (?!---|[45]\.| )(.+?) \| (.*) \|$", PROOFS.partition("## What the page says")[2], re.M)
    assert len(others) > 15
    for said, proof in others[1:]:
        assert said in SECURITY
        assert_exists(said, proof)
    taken_away = SECURITY.partition("## What is taken away")[2].partition("\n## ")[0]
    assert re.findall(r"^\| (\S.*?) \|", taken_away, re.M)[2:] == [said for said, _ in others[1:9]]


def assert_exists(what: str, proof: str) -> None:
    """Each test that a proof names must exist; `what` it proves is for the message."""
    for module, test in re.findall(r"`(test_\w+)::(test_\w+)`", proof):
        (file,) = ROOT.glob(f"tests/*/{module}.py")
        tree = ast.parse(file.read_text())
        assert test in [one.name for one in tree.body if isinstance(one, ast.FunctionDef)], what


def test_every_point_names_a_test_that_exists() -> None:
    assert [(int(section), int(point)) for section, point, _ in ROWS] == [
        *((4, point) for point in range(1, 12)),
        *((5, point) for point in range(1, 32)),
    ]
    for section, point, proof in ROWS:
        assert_exists(f"{section}.{point}", proof)
        assert "`test_" in proof or proof.startswith("yours"), f"{section}.{point}"
