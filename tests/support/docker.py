"""The docker command, and what is always removed."""

import json
import os
import subprocess
import uuid
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
IMAGE = os.environ.get("TEST_IMAGE", "dockerable:test")
# On everything that the tests make, so that what is left behind can be found; two runs at once see only their own.
LABEL = f"dockerable.test={uuid.uuid4().hex[:8]}"


def run(
    *command: str | Path,
    check: bool = True,
    timeout: float = 120,
    env: dict[str, str] | None = None,
    cwd: Path = ROOT,
    stdin: str | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a command of the host, its output captured; `env` adds to the environment.

    Raises AssertionError with all that it printed when `check` and it fails.
    """
    done = subprocess.run(
        [str(word) for word in command],
        capture_output=True,
        text=True,
        errors="replace",
        timeout=timeout,
        env={**os.environ, **(env or {})},
        cwd=cwd,
        input=stdin,
        check=False,
    )
    assert not check or done.returncode == 0, (
        f"{' '.join(map(str, command))} ended with {done.returncode}\n{done.stdout}{done.stderr}"
    )
    return done


def docker(*words: str | Path, check: bool = True, timeout: float = 120) -> str:
    """What `docker WORDS…` prints on stdout, stripped."""
    return run("docker", *words, check=check, timeout=timeout).stdout.strip()


def inspect(name: str) -> dict[str, Any]:
    """`docker inspect` of one container or image."""
    return json.loads(docker("inspect", name))[0]


def unique(word: str) -> str:
    """A name for a container, network or volume that nothing else has."""
    return f"dockerable-test-{word}-{uuid.uuid4().hex[:8]}"
