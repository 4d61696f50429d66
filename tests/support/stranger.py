"""Somebody who pastes what the pages say: into a shell, and into one in a clone of this repository."""

import os
import re
import shlex
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

from tests.support.compose import left_of
from tests.support.docker import IMAGE, docker, run, unique
from tests.support.installation import SyslogSocket
from tests.support.pages import UNTIL_CTRL_C, Block
from tests.support.terminal import Shown, Terminal
from tests.support.tree import copy_tree
from tests.support.wait import free_port

# createsuperuser's questions.
ANSWERS = {
    r"Username.*: $": "ada",
    r"Email.*: $": "ada@example.com",
    r"Password: $": "correct horse battery staple",
    r"Password \(again\): $": "correct horse battery staple",
}
# `docker build` gives the image under test another name, since it was built of these files. All else is docker's.
DOCKER = """#!/bin/sh
if [ "$1" = build ]; then
    while [ "$1" != -t ]; do shift; done
    exec {docker} tag {image} "$2"
fi
exec {docker} "$@"
"""


def commit(folder: Path) -> None:
    """Put all files of the folder into a new git repository there."""
    author = ("-c", "user.name=a", "-c", "user.email=a@b.test", "-c", "core.hooksPath=/dev/null")
    for words in (("init", "-q"), ("add", "-A"), ("commit", "-q", "-m", "all")):
        run("git", "-C", folder, *author, *words)


class Reader:
    """A shell in `folder` with further variables, into which a test pastes what a page says.

    `own` is what a test changes in it: the page's names and ports, and the test's in their place.
    """

    def __init__(self, folder: Path, variables: Mapping[str, str], own: Mapping[str, str] | None = None) -> None:
        self.own = dict(own or {})
        self.terminal = Terminal(folder, variables, ANSWERS)
        self.terminal.__enter__()

    def translate(self, command: str) -> str:
        """The command with the names and ports of this test in place of the page's."""
        known = sorted(self.own, key=len, reverse=True)
        if not known:
            return command
        return re.sub("|".join(map(re.escape, known)), lambda found: self.own[found[0]], command)

    def paste(self, block: Block, timeout: float = 240) -> str:
        """What a block prints. `timeout` is in seconds and for each of its commands.

        Raises AssertionError with page, line and output where a command fails.
        """
        text = ""
        for number, line in enumerate(block.lines):
            typed = self.translate(line)
            try:
                if block.marker == UNTIL_CTRL_C:
                    shown: Shown | None = Shown(self.terminal.type_until_ctrl_c(typed).text, 0)
                else:
                    shown = self.terminal.type(typed, timeout)
            except AssertionError as reason:
                raise AssertionError(f"{block}, command {number + 1}: {typed}\n{text}{reason}") from None
            text += shown.text if shown else ""
            assert not shown or shown.status == 0, (
                f"{block}, command {number + 1}: {typed}\nended with {shown.status}\n{text}"
            )
        return text

    def paste_all(self, blocks: Iterable[Block]) -> dict[str, str]:
        """Paste one block after the other; what each printed, by its section (of the last one that is in it)."""
        return {block.section: self.paste(block) for block in blocks}

    def say(self, command: str) -> str:
        """What a command of the test's own prints in the same shell."""
        shown = self.terminal.type(command)
        assert shown and shown.status == 0, shown
        return shown.text

    def close(self) -> None:
        self.terminal.__exit__()


class Stranger(Reader):
    """A clone in `place`, and a shell in it; `remove()` takes away all that the pasted commands have made.

    Two runs of the tests, and sites that the host has, must not meet. So ports, image, Compose projects and syslog are
    the test's own: in the clone's compose files by other defaults, and in what is pasted by `own`, which is all that
    differs from the page. `variables` are the shell's.
    """

    def __init__(self, place: Path, variables: Mapping[str, str] | None = None) -> None:
        self.name = unique("walk")
        self.local_port, self.port, self.https_port, other = (free_port() for _ in range(4))
        own = {
            "dockerable:": f"{self.name}:",
            "project-prod": f"{self.name}-prod",
            "127.0.0.1:8000/": f"127.0.0.1:{self.local_port}/",
            "127.0.0.1/": f"127.0.0.1:{self.port}/",
            "HTTP_PORT=8080": f"HTTP_PORT={other}",
            "HTTP_PORT=127.0.0.1:8080": f"HTTP_PORT=127.0.0.1:{other}",
            ":443:127.0.0.1 https://www.example.com/": f":{self.https_port}:127.0.0.1 "
            f"https://www.example.com:{self.https_port}/",
        }
        self.tree = copy_tree(place / "clone")
        self.change_defaults()
        commit(self.tree)
        self.syslog = SyslogSocket()
        super().__init__(self.tree, {**self.shell_variables(place / "bin"), **(variables or {})}, own)

    def edit(self, name: str, old: str, new: str) -> None:
        """Replace text that a file of project/settings/ must have."""
        file = self.tree / "project/settings" / name
        assert old in file.read_text(), (name, old)
        file.write_text(file.read_text().replace(old, new))

    def change_defaults(self) -> None:
        for environment in ("local", "example"):
            self.edit(f"{environment}/.env", "NAME=project-", f"NAME={self.name}-")
        self.edit("local/docker-compose.yml", "HTTP_PORT:-8000}", f"HTTP_PORT:-{self.local_port}}}")
        self.edit("example/docker-compose.yml", "HTTP_PORT:-80}", f"HTTP_PORT:-{self.port}}}")
        self.edit("example/docker-compose-ssl.yml", "HTTPS_PORT:-443}", f"HTTPS_PORT:-{self.https_port}}}")

    def shell_variables(self, bin_: Path) -> dict[str, str]:
        bin_.mkdir()
        real = shutil.which("docker")
        assert real
        (bin_ / "docker").write_text(DOCKER.format(docker=shlex.quote(real), image=IMAGE))
        (bin_ / "docker").chmod(0o755)
        return {
            "PATH": f"{bin_}:{os.environ['PATH']}",
            "IMAGE": f"{self.name}:latest",
            "SYSLOG_ADDRESS": self.syslog.address,
            "NO_PROXY": "127.0.0.1,www.example.com",
            "no_proxy": "127.0.0.1,www.example.com",
        }

    def remove(self) -> None:
        self.close()
        try:
            for project in (f"{self.name}-{environment}" for environment in ("local", "prod")):
                label = ("--filter", f"label=com.docker.compose.project={project}")
                docker("rm", "-f", "-v", *docker("ps", "-aq", *label).split(), check=False)
                for kind in ("network", "volume"):
                    docker(kind, "rm", *docker(kind, "ls", "-q", *label).split(), check=False)
                assert left_of(project) == []
        finally:
            for image in docker("images", "--format", "{{.Repository}}:{{.Tag}}", self.name).split():
                docker("rmi", "--no-prune", image, check=False)
            self.syslog.close()
