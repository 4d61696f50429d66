"""The repository's files, and copies of them that a test may change, build and throw away."""

import os
import re
import shutil
from functools import cache
from pathlib import Path

from tests.support.docker import ROOT, docker, run

BASES = ("debian:trixie-slim", "dockerable-base:trixie")


def files() -> list[str]:
    """The repository's files, tracked or to be tracked; in a tree without git all that nothing has made."""
    listed = run("git", "ls-files", "-z", "-co", "--exclude-standard", check=False).stdout.split("\0")
    if not any(listed):
        made = {".git", ".venv", ".cache", "var", "__pycache__"}
        found = [path.relative_to(ROOT) for path in ROOT.rglob("*")]
        listed = [str(path) for path in found if not made & set(path.parts)]
    return sorted(name for name in listed if name and (ROOT / name).is_file())


def copy_tree(place: Path) -> Path:
    """Copy the repository's files, with their modes, to the new folder `place`."""
    for name in files():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, place / name, follow_symlinks=False)
    return place


def host_ca() -> str:
    """The host's own certificate authorities, as ctl gives them to a build."""
    found = sorted(Path("/usr/local/share/ca-certificates").glob("*.crt"))
    return "".join(path.read_text() for path in found).rstrip("\n")


@cache
def base_image() -> str:
    """The base that the image under test was built from, as ctl finds it. Raises LookupError where none is here."""
    here = docker("images", "--format", "{{.Repository}}:{{.Tag}}").split()
    for name in (os.environ.get("BASE_IMAGE"), *BASES):
        if name in here:
            return name
    raise LookupError(f"none of {', '.join(BASES)} is here: run dockerable/ctl build")


@cache
def helper_image(name: str) -> str:
    """The tag of the image in tests/images/NAME; built where Docker's cache does not have it, and kept."""
    tag = f"dockerable-test-{name}:trixie"
    words = ("--build-arg", f"BASE_IMAGE={base_image()}", "-t", tag, ROOT / "tests/images" / name)
    docker("build", "-q", *words, timeout=600)
    return tag


class Images:
    """Images that a test builds; `remove()` takes away what it made and keeps what other builds use."""

    def __init__(self) -> None:
        self.before = set(docker("images", "-aq", "--no-trunc").split())
        self.tags: list[str] = []
        self.made: list[str] = []

    def learn(self, log: str) -> None:
        """Note the images that the classic builder's output names."""
        self.made += re.findall(r"^ ---> ([0-9a-f]{12})$", log, re.MULTILINE)

    def remove(self) -> None:
        for tag in self.tags:
            docker("rmi", "--no-prune", tag, check=False)
        for image in reversed(self.made):
            if not any(old.startswith(f"sha256:{image}") for old in self.before):
                docker("rmi", "--no-prune", image, check=False)
