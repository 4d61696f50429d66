"""What requirement files say."""

import re

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.support.docker import ROOT


def pins(path: str) -> dict[str, tuple[Requirement, list[str], set[str]]]:
    """A compiled requirement file: by name the requirement, its hashes, and the files that ask for it."""
    found: dict[str, tuple[Requirement, list[str], set[str]]] = {}
    for block in re.split(
        r"\n(?=[a-z0-9])", "\n" + re.sub(r"^#.*\n", "", (ROOT / path).read_text(), flags=re.MULTILINE)
    ):
        if not block.strip():
            continue
        head, _, rest = block.strip().partition(" \\\n")
        requirement = Requirement(head)
        hashes = re.findall(r"--hash=sha256:([0-9a-f]{64})\b", rest)
        found[canonicalize_name(requirement.name)] = requirement, hashes, set(re.findall(r"#.*-r (\S+)", rest))
    return found


def asked_for(path: str) -> dict[str, Requirement]:
    """What an .in file names itself."""
    lines = [line.partition("#")[0].strip() for line in (ROOT / path).read_text().splitlines()]
    asked = [Requirement(line) for line in lines if line and not line.startswith("-")]
    return {canonicalize_name(requirement.name): requirement for requirement in asked}
