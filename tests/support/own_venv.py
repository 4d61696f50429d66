"""Programs of Python packages that have a virtual environment of their own, beside the one of the tests."""

import sys
from pathlib import Path

from tests.support.docker import ROOT, run


def programs(name: str) -> Path:
    """The folder with the programs of tests/requirements-NAME.txt, installed at the first use in tests/.cache/NAME."""
    place = ROOT / "tests/.cache" / name
    if not (place / "done").exists():
        run(sys.executable, "-m", "venv", "--clear", place)
        words = ("-q", "--disable-pip-version-check", "--require-hashes")
        requirements = ROOT / f"tests/requirements-{name}.txt"
        run(place / "bin/pip", "install", *words, "-r", requirements, timeout=280)
        (place / "done").touch()
    return place / "bin"
