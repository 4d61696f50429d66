"""The commands of README.md and docs/, as a reader pastes them, and which of them a test may not run."""

import re
from dataclasses import dataclass
from pathlib import Path

NOT_RUN, IN_A_CONTAINER, UNTIL_CTRL_C = "not run", "in a container", "runs until Ctrl-C"
IN_A_NEW_PROJECT = "in a new project"
# On the line before a block: `<!-- not run: needs a registry -->`.
MARKER = re.compile(rf"<!-- ({NOT_RUN}|{IN_A_CONTAINER}|{UNTIL_CTRL_C}|{IN_A_NEW_PROJECT})(?:: (.+))? -->")


@dataclass(frozen=True)
class Block:
    """One sh block of a page; `line` is that of its first command, `section` the last `## ` heading above it.

    `marker` is one of the four, or empty where the block is pasted as it is; `reason` is what follows the marker.
    """

    page: str
    line: int
    section: str
    lines: tuple[str, ...]
    marker: str = ""
    reason: str = ""

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def read_blocks(text: str, page: str) -> list[Block]:
    """The sh blocks of a page in their order. Raises ValueError for a comment that marks nothing, or nothing known."""
    found: list[Block] = []
    section, marker, language = "", ("", ""), ""
    commands: list[str] = []
    for number, line in enumerate(text.splitlines(), 1):
        fence = line.startswith("```")
        if language:
            if not fence:
                commands.append(line)
                continue
            if language == "sh":
                first = number - len(commands)
                found.append(Block(page, first, section, tuple(filter(None, commands)), *marker))
            language, marker = "", ("", "")
        elif fence:
            language, commands = line[3:] or "text", []
            if marker[0] and language != "sh":
                raise ValueError(f"{page}:{number}: a marker, and no sh block after it")
        elif marker[0]:
            raise ValueError(f"{page}:{number}: a marker, and no sh block after it")
        elif line.startswith("<!--"):
            match = MARKER.fullmatch(line)
            if not match or (match[1] == NOT_RUN and not match[2]):
                raise ValueError(f"{page}:{number}: no marker that the tests know: {line}")
            marker = (match[1], match[2] or "")
        elif line.startswith("## "):
            section = line[3:]
    return found


def blocks(page: Path) -> list[Block]:
    """The same of a file."""
    return read_blocks(page.read_text(), page.name)
