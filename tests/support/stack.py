"""One container of the image, started as the shipped compose file starts it."""

import json
import re
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import httpx
import yaml

from tests.support.docker import IMAGE, LABEL, ROOT, docker, follow, inspect, run, unique, until_healthy
from tests.support.wait import free_port, wait_until

LOCAL = ROOT / "project/settings/local/docker-compose.yml"
ENVIRONMENTS = ROOT / "tests/environments"
# Not nginx's and uWSGI's lines about requests: they contain text of clients, and a failure has a line of its own.
WORDS = r"\b(warning|error|alert|crit|emerg|traceback|exception|failed)\b"
TROUBLE = re.compile(rf"^(?!nginx\.access: |uwsgi: error: \[[\w-]+\] \S+ ).*{WORDS}", re.IGNORECASE)
# For tests in which workers are killed: uWSGI's lines about it.
WORKERS_DIE = (
    r"^uwsgi: (error|warning): (DAMN !|\*{3} (HARAKIRI|backtrace)|worker \d+ \(pid|worker respawning too fast)"
)


def hardening(service: Mapping[str, Any]) -> list[str]:
    """The options of `docker run` for the security and limits of a compose file's service."""
    options = ["--user", service["user"], "--memory", service["mem_limit"]]
    options += ["--pids-limit", str(service["pids_limit"])]
    options += ["--read-only"] if service["read_only"] else []
    options += [word for drop in service["cap_drop"] for word in ("--cap-drop", drop)]
    options += [word for option in service["security_opt"] for word in ("--security-opt", option)]
    return options + [word for mount in service["tmpfs"] for word in ("--tmpfs", mount)]


class Stack:
    """A container and its data volume; `start()` runs it, `remove()` takes everything away.

    `environment` adds to or (None) takes from the variables of `local`; `mounts` are docker's `-v` values;
    `options` are further options of `docker run`, after the hardening, so that the last word is theirs.
    """

    def __init__(
        self,
        environment: Mapping[str, str | None] | None = None,
        *,
        mounts: Sequence[str] = (),
        options: Sequence[str] = (),
        command: Sequence[str] = (),
        volume: str = "",
        image: str = IMAGE,
    ) -> None:
        self.service = yaml.safe_load(LOCAL.read_text())["services"]["web"]
        variables: dict[str, str | None] = {**self.service["environment"], **(environment or {})}
        self.environment = {name: value for name, value in variables.items() if value is not None}
        self.mounts, self.options, self.command = list(mounts), list(options), list(command)
        self.name = unique("web")
        self.own_volume = not volume
        self.volume = volume or unique("data")
        self.port = free_port()
        self.image = image
        # Patterns of warnings and errors in the log that the test expects.
        self.allowed: list[str] = []

    @classmethod
    def trial(cls, environment: Mapping[str, str | None] | None = None, **more: Any) -> "Stack":
        """With the settings folder tests/environments/trial mounted: views that only tests need."""
        mount = f"{ENVIRONMENTS / 'trial'}:/app/project/settings/trial:ro"
        module = {"DJANGO_SETTINGS_MODULE": "project.settings.trial.settings"}
        return cls({**module, **(environment or {})}, mounts=[mount, *more.pop("mounts", [])], **more)

    def start(self) -> Self:
        """`docker run -d`; returns at once."""
        words = ["run", "-d", "--name", self.name, "--label", LABEL, "-p", f"127.0.0.1:{self.port}:8080"]
        words += hardening(self.service)
        if self.own_volume:
            docker("volume", "create", "--label", LABEL, self.volume)
        words += ["-v", f"{self.volume}:/data"] if self.volume != "none" else []
        words += [word for mount in self.mounts for word in ("-v", mount)]
        words += [word for name, value in self.environment.items() for word in ("-e", f"{name}={value}")]
        docker(*words, *self.options, self.image, *self.command)
        return self

    def up(self, timeout: float = 120) -> Self:
        """Start it and wait until it is healthy. Raises RuntimeError where it ends first."""
        self.start()
        self.wait_healthy(timeout)
        return self

    def wait_healthy(self, timeout: float = 120) -> None:
        """Wait until it serves and its log tells of the whole start. Raises RuntimeError, TimeoutError."""
        until = time.monotonic() + timeout
        # Its log first: command after command in the container would take the CPU that the start needs.
        if not self.follow("accepting requests", timeout, since=self.state()["StartedAt"]):
            raise RuntimeError(f"the container ended with {self.state()['ExitCode']}\n{self.logs()}")
        if not until_healthy(self.name, max(until - time.monotonic(), 1)):
            raise RuntimeError(f"the container ended with {self.state()['ExitCode']}\n{self.logs()}")

    def follow(self, words: str, timeout: float, since: str = "") -> bool:
        """As `follow` of the container's log, until a line holds these words."""
        return follow(self.name, lambda line: words in line, timeout, since)

    def says(self, words: str, timeout: float = 60) -> bool:
        """True once the log holds these words; they may come a moment after what they tell of. Raises TimeoutError."""
        return wait_until(lambda: self.follow(words, timeout), timeout)

    def wait_end(self, timeout: float = 60) -> int:
        """The container's exit status, once it has ended. Raises TimeoutError."""
        try:
            return int(docker("wait", self.name, timeout=timeout))
        except subprocess.TimeoutExpired as reason:
            raise TimeoutError(f"{self.name} has not ended within {timeout} s") from reason

    def state(self) -> dict[str, Any]:
        """`.State` of docker inspect."""
        return inspect(self.name)["State"]

    def logs(self) -> str:
        """Everything that the container printed."""
        done = run("docker", "logs", self.name, check=False)
        return done.stdout + done.stderr

    def last_line(self) -> str:
        """The last line of the log: what ended it."""
        return self.logs().rstrip().rpartition("\n")[2]

    def exec(self, *command: str, check: bool = True, user: str = "") -> str:
        """What a command in the container prints on stdout."""
        return docker("exec", *(["-u", user] if user else []), self.name, *command, check=check)

    def uwsgi(self) -> dict[str, Any]:
        """uWSGI's statistics."""
        read = "import socket; s = socket.socket(1); s.connect('/run/uwsgi-stats.sock'); print(s.makefile().read())"
        return json.loads(self.exec("python3", "-c", read))

    def stop_application(self) -> None:
        """Stop uWSGI; nginx goes on."""
        self.exec("supervisorctl", "stop", "application")

    def client(self, **options: Any) -> httpx.Client:
        """An HTTP client whose base is this container; it follows no redirect."""
        options.setdefault("timeout", 30)
        # It speaks plain HTTP; to load the authorities that it would believe takes 35 ms each time.
        options.setdefault("verify", False)
        return httpx.Client(base_url=f"http://127.0.0.1:{self.port}", trust_env=False, **options)

    def get(self, path: str = "/", **headers: str) -> httpx.Response:
        """One GET on a connection of its own; header names with _ for -."""
        with self.client() as client:
            return client.get(path, headers={name.replace("_", "-"): value for name, value in headers.items()})

    def stop(self) -> int:
        """`docker stop` with the compose file's grace period; the exit status."""
        grace = self.service["stop_grace_period"].removesuffix("s")
        docker("stop", "-t", grace, self.name)
        return int(self.state()["ExitCode"])

    def trouble(self) -> list[str]:
        """Warnings and errors in the log that are not allowed."""
        known = [re.compile(pattern) for pattern in self.allowed]
        return [
            line
            for line in self.logs().splitlines()
            if TROUBLE.search(line) and not any(pattern.search(line) for pattern in known)
        ]

    def report(self) -> str:
        """For a failed test: the log and the rendered configuration."""
        rendered = run("docker", "exec", self.name, "sh", "-c", "cat /run/nginx/site.conf", check=False).stdout
        return f"--- log of {self.name}\n{self.logs()}\n--- site.conf\n{rendered}"

    def remove(self) -> None:
        """Remove the container and its volume."""
        docker("rm", "-f", "-v", self.name, check=False)
        if self.own_volume:
            docker("volume", "rm", "-f", self.volume, check=False)


def mounted_environment(folder: Path, name: str) -> list[str]:
    """The mounts of a settings folder under the environment name `name`."""
    return [f"{folder}:/app/project/settings/{name}:ro"]
