"""The reader who pastes: README.md and docs/, command by command, in a clone of the repository."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.docker import ROOT
from tests.support.pages import UNTIL_CTRL_C, Block, blocks
from tests.support.stranger import Stranger

README = blocks(ROOT / "README.md")
PASTED = ("", UNTIL_CTRL_C)


def pasted(found: list[Block], section: str = "") -> list[Block]:
    """Those of the blocks, or of a section's, that a test pastes here."""
    return [block for block in found if block.marker in PASTED and block.section.startswith(section)]


@pytest.fixture
def stranger(tmp_path: Path) -> Iterator[Stranger]:
    somebody = Stranger(tmp_path)
    yield somebody
    somebody.remove()


def test_a_stranger_gets_from_the_readme_to_a_running_site(stranger: Stranger) -> None:
    shown = stranger.paste(pasted(README, "Try it")[0])
    assert re.search(r"^ctl: local: healthy after \d+ s$", shown, re.M), shown
    assert f"\nhttp://127.0.0.1:{stranger.local_port}/\n" in shown
    assert "\nHTTP/1.1 200 OK\n" in shown


def test_a_stranger_gets_from_the_readme_to_the_line_of_a_failed_request(stranger: Stranger) -> None:
    shown = stranger.paste_all(pasted(README, "The first server") + pasted(README, "When a request fails"))
    server = shown["The first server"]
    assert "Superuser created successfully." in server and "\nHTTP/1.1 200 OK\n" in server
    number = stranger.say('echo "$id"').strip()
    assert re.fullmatch("[0-9a-f]{32}", number)
    lines = shown["When a request fails"].splitlines()
    assert re.match(rf'nginx\.access: \S+ "HEAD /nothing HTTP/1.1" 404 .* {number}$', lines[0]), lines
    assert len(lines) == 1 and all(number in line for line in lines)
