"""An environment over HTTPS, started by Compose from its own files, and archives of such environments."""

import json
import shlex
import socket
import tempfile
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Self

import httpx

from tests.support.acme import TlsStack
from tests.support.compose import Compose, Project
from tests.support.docker import LABEL, docker, run
from tests.support.http import Browser
from tests.support.tls import https, sni
from tests.support.tree import base_image

ROWS = """
import json, sqlite3, sys
database = sqlite3.connect("/data/db.sqlite3")
database.row_factory = sqlite3.Row
rows = {name: database.execute(f'SELECT * FROM "{name}" ORDER BY id') for name in sys.argv[1:]}
print(json.dumps({name: [dict(row) for row in found] for name, found in rows.items()}))
"""


class SyslogSocket:
    """A Unix datagram socket in a folder of its own that takes what the engine's syslog driver sends."""

    def __init__(self) -> None:
        # pytest's own folders are too long: a Unix socket's path may have 108 bytes.
        self.folder = tempfile.TemporaryDirectory(prefix="syslog")
        self.received: list[str] = []
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(f"{self.folder.name}/log")
        self.address = f"unixgram://{self.folder.name}/log"
        self.thread = threading.Thread(target=self.loop, daemon=True)
        self.thread.start()

    def loop(self) -> None:
        # Empty after close().
        while message := self.socket.recv(1 << 16):
            self.received.append(message.decode(errors="replace"))

    def close(self) -> None:
        self.socket.shutdown(socket.SHUT_RDWR)
        self.thread.join()
        self.socket.close()
        self.folder.cleanup()


class Installation(TlsStack):
    """The environment in `folder`, which `up` and `start` run over HTTPS by its own compose files.

    Ports, image, project name and syslog's address come by variables; `addition` is the content of a second compose
    file. `remove()` takes the folder away as well, whoever owns the files in it.
    """

    def __init__(self, compose: Compose, folder: Path, names: Iterable[str], addition: Mapping[str, Any]) -> None:
        super().__init__(None, names=tuple(names))
        self.folder, self.addition = folder, addition
        self.syslog = SyslogSocket()
        self.project = Project(
            compose,
            folder / "docker-compose-ssl.yml",
            HTTP_PORT=str(self.port),
            HTTPS_PORT=str(self.https_port),
            SYSLOG_ADDRESS=self.syslog.address,
        )
        self.volume = f"{self.project.name}_data"

    def compose(self, *words: str) -> str:
        """What `compose -f FILE -f ADDITION WORDS…` prints on stdout."""
        with tempfile.NamedTemporaryFile("w", suffix=".yml") as file:
            json.dump(self.addition, file)
            file.flush()
            return self.project("-f", file.name, *words)

    def start(self) -> Self:
        """`up -d`."""
        self.compose("up", "-d")
        self.name = self.project.container()
        return self

    def unpack(self, archive: Path) -> None:
        """Put an archive's prod/ where the folder is to be, and its data/ into the volume, as they were."""
        unpack(archive, "prod", self.folder.parent, "/to")
        # Makes the volume.
        self.compose("up", "--no-start")
        unpack(archive, "data", self.volume, "/to/data")

    def rows(self, tables: Iterable[str]) -> dict[str, list[dict[str, Any]]]:
        """All rows of these tables of the SQLite database, by their ids."""
        found: dict[str, list[dict[str, Any]]] = json.loads(self.exec("python3", "-c", ROWS, *tables))
        return found

    def run_cron_line(self, line: str) -> int:
        """Run the command of a crontab's line that names the container CONTAINER; its exit status."""
        command = line.split(maxsplit=5)[5].replace("CONTAINER", self.name)
        return run(*shlex.split(command), check=False).returncode

    def client(self, **options: Any) -> httpx.Client:
        """A client of the first name over HTTPS."""
        ask = {"request": [lambda request: request.extensions.update(sni(self))]}
        return https(self, event_hooks=ask, **options)

    def browser(self) -> Browser:
        return Browser(self, f"https://{self.names[0]}:{self.https_port}")

    def remove(self) -> None:
        try:
            self.project.remove()
        finally:
            place = ("-v", f"{self.folder.parent}:/to", "-w", "/to")
            docker("run", "--rm", "--label", LABEL, *place, base_image(), "rm", "-rf", self.folder.name)
            self.syslog.close()


def unpack(archive: Path, member: str, source: Path | str, target: str) -> None:
    """Unpack one folder of an archive to /to in a container that has `source` mounted at `target`."""
    docker(
        *("run", "--rm", "--label", LABEL, "--network", "none", "-v", f"{source}:{target}"),
        *("-v", f"{archive}:/archive.tar.gz:ro", base_image()),
        *("tar", "-xzpf", "/archive.tar.gz", "--numeric-owner", "-C", "/to", member),
    )
