"""A container with an environment's folder that the test changes while the container runs, and its workers' answers."""

import json
import os
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.support.docker import run
from tests.support.environments import EXAMPLE, MODULE, settings_folder
from tests.support.stack import Stack

SETTINGS = f"{EXAMPLE}\nROOT_URLCONF = 'project.settings.prod.urls'\nVERSION = 1\n"
URLS = """
import time
from pathlib import Path

from django.conf import settings
from django.http import HttpResponse, JsonResponse
from django.urls import path

CODE = 1


def version(request):
    loaded = {"settings": settings.VERSION, "code": CODE, "secrets": settings.DEFAULT_FROM_EMAIL}
    return JsonResponse({**loaded, "host": settings.EMAIL_HOST})


def slow(request, seconds):
    time.sleep(seconds)
    return HttpResponse(f"slept, code {CODE}")


def crash(request):
    raise RuntimeError("as the test asked")


def places(request):
    here = Path(__file__).resolve()
    return JsonResponse({"secrets": (here.parent / "secrets.json").is_file(), "root": [
        name for name in ("manage.py", "project/urls.py", "requirements.txt") if (here.parents[3] / name).is_file()
    ]})


urlpatterns = [
    path("version", version), path("code", lambda request: HttpResponse(CODE)), path("places", places),
    path("slow/<int:seconds>", slow), path("crash", crash),
]
"""


class Mounted(Stack):
    """The environment `prod`, made of `example`, in a folder of the test's own."""

    def __init__(
        self, folder: Path, environment: dict[str, str] | None = None, mounts: Sequence[str] = (), **more: Any
    ):
        self.folder = folder
        own = settings_folder(folder, {"settings.py": SETTINGS, "urls.py": URLS})
        variables = {"DJANGO_SETTINGS_MODULE": MODULE, "UWSGI_PROCESSES": "2", **(environment or {})}
        super().__init__(variables, mounts=[*own, *mounts], **more)
        # The user that the container runs as here may be the one that runs the tests.
        self.options += [] if os.getuid() == 0 else ["--user", f"{os.getuid()}:0"]
        self.key = secrets.token_urlsafe(50)
        self.store(DEFAULT_FROM_EMAIL="1@example.test")

    def write(self, name: str, text: str) -> None:
        (self.folder / name).write_text(text)

    def change(self, name: str, old: str, new: str) -> None:
        """Replace something in a file of the folder."""
        text = (self.folder / name).read_text()
        assert old in text
        self.write(name, text.replace(old, new))

    def store(self, **values: str) -> None:
        """Write secrets.json."""
        self.write("secrets.json", json.dumps({"SECRET_KEY": self.key, **values}))
        (self.folder / "secrets.json").chmod(0o640)

    def set_version(self, number: int) -> None:
        """Write another version of settings, code and secrets."""
        self.write("settings.py", SETTINGS.replace("VERSION = 1", f"VERSION = {number}"))
        self.write("urls.py", URLS.replace("CODE = 1", f"CODE = {number}"))
        self.store(DEFAULT_FROM_EMAIL=f"{number}@example.test")

    def served(self, times: int = 12) -> set[tuple[int, int, str]]:
        """The versions of settings, code and secrets that answered this many requests."""
        told = [self.get("/version").json() for _ in range(times)]
        return {(one["settings"], one["code"], one["secrets"].partition("@")[0]) for one in told}

    def reload(self, *options: str) -> tuple[int, str]:
        """`docker exec CONTAINER reload`: its exit status, and what it printed."""
        done = run("docker", "exec", *options, self.name, "reload", check=False)
        return done.returncode, done.stdout + done.stderr

    def workers(self) -> set[int]:
        """Process ids of uWSGI's workers, by its own account."""
        return {worker["pid"] for worker in self.uwsgi()["workers"]}

    def running(self, program: str) -> list[str]:
        """The pids of processes with these words in their command lines."""
        find = (
            "for one in /proc/[0-9]*; do tr '\\0' ' ' <$one/cmdline | grep -q \"$1\" && echo ${one#/proc/}; done; true"
        )
        # Not the shell that looks for them, which has the words in its command line too.
        return self.exec("sh", "-c", f"{{ {find}; }} 2>/dev/null", "-", f"{program[:-1]}[{program[-1]}]").split()

    def master(self) -> int:
        """Process id of uWSGI's master, by its own account. Raises AssertionError where it does not answer."""
        return int(self.uwsgi()["pid"])
