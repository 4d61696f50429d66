"""The processes that a site consists of."""

import json
from dataclasses import dataclass

from tests.support.stack import Stack

# pid, parent's pid and command line of every process in the container.
PROCESSES = r"""
import json, pathlib
found = []
for status in pathlib.Path("/proc").glob("[0-9]*/status"):
    try:
        parent = int(status.read_text().partition("PPid:")[2].split()[0])
        command = (status.parent / "cmdline").read_bytes().replace(b"\0", b" ").decode()
    except (OSError, IndexError):
        continue
    found.append([int(status.parent.name), parent, command.strip()])
print(json.dumps(found))
"""


@dataclass(frozen=True)
class Process:
    pid: int
    parent: int
    command: str


def processes(stack: Stack) -> dict[str, set[int]]:
    """The pids of each kind of process that a site consists of."""
    all_of_them = [Process(*fields) for fields in json.loads(stack.exec("python3", "-c", PROCESSES))]
    supervisors = {process.pid for process in all_of_them if "bin/supervise" in process.command}
    applications = [process for process in all_of_them if "bin/application" in process.command]
    masters = {process.pid for process in applications if process.parent in supervisors}
    return {
        "nginx master": {process.pid for process in all_of_them if process.command.startswith("nginx: master")},
        "nginx worker": {process.pid for process in all_of_them if process.command.startswith("nginx: worker process")},
        "uWSGI master": masters,
        "uWSGI worker": {process.pid for process in applications if process.parent in masters},
    }
