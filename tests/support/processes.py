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

# Kills a worker, sends uWSGI's master a SIGTERM as soon as the successor is there, or so many seconds later, and prints
# the seconds until the master has ended; after 60 it gives up.
STOP_WHILE_A_WORKER_STARTS = r"""
import os, pathlib, signal, subprocess, sys, time

def running(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False

master = int(subprocess.run(["supervisorctl", "pid", "application"], capture_output=True, text=True).stdout)
children = pathlib.Path(f"/proc/{master}/task/{master}/children")
before = set(children.read_text().split())
os.kill(int(min(before)), signal.SIGKILL)
while not set(children.read_text().split()) - before:
    time.sleep(0.005)
time.sleep(float(sys.argv[1]))
os.kill(master, signal.SIGTERM)
began = time.monotonic()
while running(master) and time.monotonic() < began + 60:
    time.sleep(0.05)
print(time.monotonic() - began)
if running(master):
    os.kill(master, signal.SIGKILL)
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


def seconds_of_a_stop(site: Stack, after: float = 0.0) -> float:
    """How long uWSGI's master takes to end that is stopped so long after it has begun to replace a worker."""
    return float(site.exec("python3", "-c", STOP_WHILE_A_WORKER_STARTS, str(after)))
