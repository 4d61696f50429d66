"""The docker command, and the labels by which the tests' containers are found and removed."""

import json
import os
import subprocess
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
IMAGE = os.environ.get("TEST_IMAGE", "dockerable:test")
# A label on everything that the tests make, to find leftovers; each of two parallel runs has its own.
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


def follow(name: str, enough: Callable[[str], bool], timeout: float, since: str = "") -> bool:
    """Whether a line of the container's log is enough, asked of each as it comes, before the container ends.

    `since` is a time of the engine's; without it the lines count that were there before, too. Raises TimeoutError.
    """
    command = ["docker", "logs", "--follow", *(["--since", since] if since else []), name]
    until = time.monotonic() + timeout
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    ) as reader:
        late = threading.Timer(timeout, reader.kill)
        late.start()
        try:
            assert reader.stdout
            if any(map(enough, reader.stdout)):
                return True
        finally:
            late.cancel()
            reader.kill()
    if time.monotonic() >= until:
        raise TimeoutError(f"the log of {name} did not say it within {timeout} s")
    return False


def until_healthy(name: str, timeout: float) -> bool:
    """True once the container's own health check is content, false where the container ends first. Raises TimeoutError.

    PID 1's verdict may be seconds old, so a worker is asked as well: something may have been killed just before.
    One command in the container that asks again and again: many of them would take the CPU that a start needs.
    """
    try:
        ask = "until healthcheck && HEALTH_PATH=/dockerable/live healthcheck; do sleep 0.1; done"
        return run("docker", "exec", name, "sh", "-c", ask, check=False, timeout=timeout).returncode == 0
    except subprocess.TimeoutExpired as reason:
        raise TimeoutError(f"{name} is not healthy within {timeout} s") from reason


def unique(word: str) -> str:
    """A name for a container, network or volume that nothing else has."""
    return f"dockerable-test-{word}-{uuid.uuid4().hex[:8]}"
