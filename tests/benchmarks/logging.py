"""What the log costs: tests/.venv/bin/python -m tests.benchmarks.logging [ROUNDS] [SECONDS]

CPU a request of the container, and of the engine that reads its stdout, with the access log as it is (text, json)
and written straight to stdout, each against none (off); `control` is a second container without one. All are up; a
pair is asked in turn, off, variant, variant, off, SECONDS each, and the pairs take turns. The engine's figures hold
what others ask of it meanwhile, and the docker command that starts each asking.
"""

import os
import re
import statistics
import sys
import tempfile
from collections import defaultdict
from dataclasses import astuple, dataclass
from pathlib import Path

from tests.support.docker import LABEL, ROOT, docker, unique
from tests.support.stack import Stack
from tests.support.tree import helper_image

CONFIGURATION = (ROOT / "dockerable/nginx/logging.conf").read_text()
ACCESS_LOG = re.compile("^access_log .*;$", re.MULTILINE)
# off must be the first.
VARIANTS = {
    "off": ("text", "access_log off;"),
    "control": ("text", "access_log off;"),
    "text": ("text", None),
    "json": ("json", None),
    "straight": ("text", "access_log /proc/1/fd/1 text;"),
}
PAGES = {"/plain": "a small view", "/static/benchmark.bin": "a file of 20 KB"}


@dataclass
class Cost:
    """Microseconds of CPU a request."""

    container: float
    engine: float


def mean(costs: list[Cost]) -> Cost:
    """Their mean."""
    return Cost(*(statistics.mean(figure) for figure in zip(*map(astuple, costs), strict=True)))


def container_cpu(pid: int) -> float:
    """Seconds of CPU that the cgroup of this process has used."""
    for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if "cpuacct" in controllers.split(","):
            return int(Path(f"/sys/fs/cgroup/cpuacct{path}/cpuacct.usage").read_text()) / 1e9
        if not controllers and (stat := Path(f"/sys/fs/cgroup{path}/cpu.stat")).exists():
            return int(stat.read_text().split()[1]) / 1e6
    raise LookupError(f"no cgroup of {pid} counts its CPU")


def engine_cpu(container: str) -> float:
    """Seconds of CPU of dockerd and of this container's shim."""
    ticks = 0
    for place in Path("/proc").glob("[0-9]*"):
        try:
            command = (place / "cmdline").read_bytes().split(b"\0")
            name = Path(command[0].decode()).name
            if name == "dockerd" or (name.startswith("containerd-shim") and container.encode() in command):
                fields = (place / "stat").read_text().rpartition(")")[2].split()
                ticks += int(fields[11]) + int(fields[12])
        except (OSError, UnicodeDecodeError):
            continue
    return ticks / os.sysconf("SC_CLK_TCK")


class Site:
    """A container of one variant, and the client beside it that asks it."""

    def __init__(self, variant: str, folder: Path, image: str) -> None:
        log_format, directive = VARIANTS[variant]
        file = folder / "benchmark.bin"
        file.write_bytes(b"x" * 20_000)
        mounts = [f"{file}:/srv/static/benchmark.bin:ro"]
        if directive:
            (folder / variant).write_text(ACCESS_LOG.sub(directive, CONFIGURATION))
            mounts.append(f"{folder / variant}:/app/dockerable/nginx/logging.conf:ro")
        self.stack = Stack.trial({"LOG_FORMAT": log_format, "UWSGI_PROCESSES": "2"}, mounts=mounts)
        self.client = unique("load")
        self.image = image

    def start(self) -> None:
        self.stack.up(120)
        self.pid = self.stack.state()["Pid"]
        self.identity = docker("inspect", "-f", "{{.Id}}", self.stack.name)
        network = f"container:{self.stack.name}"
        docker("run", "-d", "--name", self.client, "--label", LABEL, "--network", network, self.image, "sleep", "7200")

    def remove(self) -> None:
        docker("rm", "-f", self.client, check=False)
        self.stack.remove()

    def ask(self, path: str, seconds: int) -> Cost:
        """Ask for `path` for so long."""
        before = container_cpu(self.pid), engine_cpu(self.identity)
        command = ("wrk", "-t1", "-c8", f"-d{seconds}s", f"http://127.0.0.1:8080{path}")
        told = docker("exec", self.client, *command)
        after = container_cpu(self.pid), engine_cpu(self.identity)
        assert "Non-2xx" not in told, told
        requests = int(re.findall(r"(\d+) requests in", told)[0])
        return Cost(*((end - start) / requests * 1e6 for start, end in zip(before, after, strict=True)))


def spread(values: list[float]) -> str:
    """Median, and the first and third quartile."""
    low, middle, high = statistics.quantiles(values, n=4)
    return f"{middle:6.3f} ({low:.3f} to {high:.3f})"


def main(rounds: int, seconds: int) -> None:
    image = helper_image("load")
    sites: dict[str, Site] = {}
    pairs: dict[tuple[str, str], list[tuple[Cost, Cost]]] = defaultdict(list)
    load = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        try:
            for variant in VARIANTS:
                sites[variant] = Site(variant, folder, image)
                sites[variant].start()
                for path in PAGES:
                    sites[variant].ask(path, 1)
            for _ in range(rounds):
                for path in PAGES:
                    for variant in list(VARIANTS)[1:]:
                        off = [sites["off"].ask(path, seconds)]
                        mine = [sites[variant].ask(path, seconds) for _ in range(2)]
                        off.append(sites["off"].ask(path, seconds))
                        pairs[path, variant].append((mean(off), mean(mine)))
                        load.append(os.getloadavg()[0])
        finally:
            for site in sites.values():
                site.remove()
    print(f"{rounds} rounds of {seconds} s, load average {min(load):.1f} to {max(load):.1f}; median (quartiles)")
    for (path, variant), costs in pairs.items():
        container = spread([mine.container / off.container for off, mine in costs])
        together = spread([(mine.container + mine.engine) / (off.container + off.engine) for off, mine in costs])
        figures = [
            statistics.median(figure)
            for figure in zip(*((*astuple(off), *astuple(mine)) for off, mine in costs), strict=True)
        ]
        print(
            f"{PAGES[path]:16} {variant:9} container {container}, with the engine {together}; "
            "off {:.1f} + {:.1f}, it {:.1f} + {:.1f} us".format(*figures)
        )


if __name__ == "__main__":
    main(int(sys.argv[1]) if sys.argv[1:] else 10, int(sys.argv[2]) if sys.argv[2:] else 2)
