"""The soak test: load, reloads and kills for minutes. Only kills may cost requests, and no resource may grow.

Usage: tests/run.sh soak [SECONDS]

Prints what it measured. Exits: 0, or 1 with what was wrong.
"""

import http.client
import json
import random
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from tests.support.docker import run
from tests.support.processes import processes
from tests.support.stack import Stack
from tests.support.wait import wait_until

SECONDS = 600
RATE = 50  # requests a second, each on a connection of its own
RELOAD_EVERY, KILL_EVERY = 30.0, 20.0
# Every tenth request is for a file.
PATHS = ("/show",) * 6 + ("/",) * 3 + ("/static/start/start.css",)
# Seconds after a kill in which requests may fail: a killed master serves nothing until it has restarted, which takes
# as long as the container's start did, or twice that beside the load.
WORKER_COSTS, MASTER_COSTS = 1.0, 10.0
# Seconds that a reload may take; beyond these it hangs.
PATIENCE = 150
# Not supervisord, whose death ends the container on purpose, and not PID 1, which cannot be killed from inside.
KINDS = ("nginx worker", "uWSGI worker", "nginx master", "uWSGI master")
# Memory of processes (bytes), open descriptors, processes, zombies, KiB in /run; PID 1's own memory and descriptors.
FIGURES = r"""
import json, os, pathlib, subprocess
memory = descriptors = number = zombies = 0
one = {}
for status in pathlib.Path("/proc").glob("[0-9]*/status"):
    try:
        text = status.read_text()
        if int(status.parent.name) == os.getpid():
            continue
        opened = len(os.listdir(status.parent / "fd"))
    except OSError:
        continue
    fields = dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)
    resident = int(fields.get("RssAnon", "0 kB").split()[0]) * 1024
    zombies += fields["State"].startswith("Z")
    memory, descriptors, number = memory + resident, descriptors + opened, number + 1
    if status.parent.name == "1":
        one = {"memory of PID 1": resident, "descriptors of PID 1": opened}
run = int(subprocess.run(["du", "-sk", "/run"], capture_output=True, text=True).stdout.split()[0]) * 1024
found = {"memory": memory, "descriptors": descriptors, "processes": number, "zombies": zombies, "/run": run}
print(json.dumps({**found, **one}))
"""
# How much each figure may exceed that of the start: a factor, and an amount added to it.
GROWTH = {
    "memory": (1.25, 16 << 20),
    "descriptors": (1.0, 8),
    "processes": (1.0, 0),
    "zombies": (1.0, 0),
    "/run": (1.0, 1 << 20),
    "memory of PID 1": (1.0, 4 << 20),
    "descriptors of PID 1": (1.0, 2),
}


@dataclass(frozen=True)
class Kill:
    """A kill: the kind of process, its earliest moment, until when requests may fail for it, and how many may."""

    kind: str
    moment: float
    until: float
    most: int

    def explains(self, began: float, ended: float) -> bool:
        """Whether a request with this begin and end may have failed because of the kill."""
        return began <= self.until and ended >= self.moment


@dataclass
class Soak:
    """The requests, their answers, and the kills and reloads meanwhile; moments in seconds of the monotonic clock."""

    stack: Stack
    random: random.Random
    master_costs: float
    answers: Counter[str] = field(default_factory=Counter)
    failed: list[tuple[float, float, str]] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    kills: list[Kill] = field(default_factory=list)
    reloads: list[tuple[float, int, str]] = field(default_factory=list)
    in_flight: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def ask(self, path: str) -> None:
        """Send one request; if it fails, store when it began and ended."""
        with self.lock:
            self.in_flight += 1
        began = time.monotonic()
        try:
            connection = http.client.HTTPConnection("127.0.0.1", self.stack.port, timeout=30)
            connection.request("GET", path, headers={"Host": "localhost", "Connection": "close"})
            answer = connection.getresponse()
            answer.read()
            how = str(answer.status)
            connection.close()
        except (OSError, http.client.HTTPException) as reason:
            how = type(reason).__name__
        ended = time.monotonic()
        with self.lock:
            self.in_flight -= 1
            self.answers[how] += 1
            if how == "200":
                self.times.append(ended - began)
            else:
                self.failed.append((began, ended, how))

    def kill(self) -> None:
        """Send SIGKILL to one process of a random kind."""
        kind = self.random.choice(KINDS)
        pids = sorted(processes(self.stack)[kind])
        if not pids:
            return
        moment, in_flight = time.monotonic(), self.in_flight
        self.stack.exec("sh", "-c", f"kill -9 {self.random.choice(pids)}", check=False)
        done, in_flight = time.monotonic(), max(in_flight, self.in_flight)
        if kind == "uWSGI worker":
            kill = Kill(kind, moment, done + WORKER_COSTS, 1)
        elif kind == "nginx worker":
            kill = Kill(kind, moment, done + WORKER_COSTS, in_flight)
        else:
            kill = Kill(kind, moment, done + self.master_costs, in_flight + int(RATE * self.master_costs))
        self.kills.append(kill)

    def reload(self) -> None:
        began = time.monotonic()
        try:
            done = run("docker", "exec", self.stack.name, "reload", check=False, timeout=PATIENCE)
            status, said = done.returncode, (done.stdout + done.stderr).strip().rpartition("\n")[2]
        except subprocess.TimeoutExpired:
            status, said = 124, f"it did not end within {PATIENCE} s"
        self.reloads.append((began, status, said))

    def every(self, seconds: float, until: float, step: Callable[[], None]) -> None:
        """Call `step` at fixed moments; the first after `seconds`, none so late that its costs come after the end."""
        moment = time.monotonic() + seconds
        while moment < until - self.master_costs:
            time.sleep(max(moment - time.monotonic(), 0))
            step()
            moment = max(moment + seconds, time.monotonic())

    def run(self, seconds: float) -> None:
        """Send requests, kill and reload for this many seconds."""
        began = time.monotonic()
        until = began + seconds
        others = [
            threading.Thread(target=self.every, args=(KILL_EVERY, until, self.kill)),
            threading.Thread(target=self.every, args=(RELOAD_EVERY, until, self.reload)),
        ]
        for thread in others:
            thread.start()
        with ThreadPoolExecutor(100) as pool:
            for number in range(int(seconds * RATE)):
                time.sleep(max(began + number / RATE - time.monotonic(), 0))
                pool.submit(self.ask, PATHS[number % len(PATHS)])
        for thread in others:
            thread.join()

    def cost(self, kill: Kill) -> tuple[int, float]:
        """Requests that a kill cost, and seconds; near the kill of a master, failures count for the master."""
        masters = [one for one in self.kills if "master" in one.kind and one is not kill and "worker" in kill.kind]
        ends = [
            ended
            for began, ended, _ in self.failed
            if kill.explains(began, ended) and not any(one.explains(began, ended) for one in masters)
        ]
        return len(ends), max(ends, default=kill.moment) - kill.moment

    def wrong(self, before: dict[str, int], after: dict[str, int]) -> list[str]:
        """The violations that were found."""
        unexplained = Counter(
            how for began, ended, how in self.failed if not any(kill.explains(began, ended) for kill in self.kills)
        )
        found = [f"{times} requests failed with {how} and nothing explains it" for how, times in unexplained.items()]
        for kill in self.kills:
            lost, seconds = self.cost(kill)
            if lost > kill.most:
                found.append(f"kill -9 of a {kill.kind} cost {lost} requests within {seconds:.1f} s, not {kill.most}")
        masters = [kill.moment for kill in self.kills if "master" in kill.kind]
        for moment, status, said in self.reloads:
            if status == 124 or (
                status and not any(moment - self.master_costs < kill < moment + RELOAD_EVERY for kill in masters)
            ):
                found.append(f"a reload ended with {status}: {said}")
        for name, (factor, more) in GROWTH.items():
            if after[name] > before[name] * factor + more:
                found.append(f"{name} grew from {before[name]} to {after[name]}")
        return found

    def report(self, before: dict[str, int], after: dict[str, int]) -> None:
        """The figures."""
        times = sorted(self.times)
        answers = ", ".join(f"{how}: {number}" for how, number in self.answers.most_common())
        print(f"requests: {sum(self.answers.values())} ({answers})")
        if times:
            p50, p99 = (times[int(len(times) * part)] * 1000 for part in (0.5, 0.99))
            print(f"time of an answer: median {p50:.0f} ms, p99 {p99:.0f} ms, longest {times[-1]:.2f} s")
        print(f"reloads: {len(self.reloads)}, of them refused: {sum(bool(status) for _, status, _ in self.reloads)}")
        for kind in KINDS:
            costs = [self.cost(kill) for kill in self.kills if kill.kind == kind]
            lost, longest = sum(lost for lost, _ in costs), max((seconds for _, seconds in costs), default=0)
            print(f"kill -9 of a {kind}: {len(costs)} times, {lost} requests failed, for {longest:.1f} s at most")
        for name in GROWTH:
            large = before[name] > 100_000
            unit = (1 << 20) if large else 1
            print(f"{name}: {before[name] / unit:.4g} to {after[name] / unit:.4g}{' MB' if large else ''}")


def figures(stack: Stack) -> dict[str, int]:
    return dict(json.loads(stack.exec("python3", "-c", FIGURES)))


def main() -> int:
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else SECONDS
    seed = int(time.time())
    stack = Stack.trial({"UWSGI_PROCESSES": "4"}, options=["--log-opt", "max-size=50m"])
    try:
        began = time.monotonic()
        stack.up(120)
        start = time.monotonic() - began
        soak = Soak(stack, random.Random(seed), max(MASTER_COSTS, 2 * start))
        print(f"soak: {seconds:.0f} s, {RATE} requests/s, seed {seed}; the start took {start:.1f} s", flush=True)
        # Memory that the first reload and each worker's first requests take is not given back.
        stack.exec("reload")
        for number in range(400):
            soak.ask(PATHS[number % len(PATHS)])
        assert not soak.failed, soak.failed
        before = figures(stack)
        soak.run(seconds)
        stack.wait_healthy(60)

        def settled() -> bool:
            return figures(stack)["processes"] <= before["processes"]

        try:
            wait_until(settled, 60, every=2)
        except TimeoutError:
            print(stack.exec("sh", "-c", "cat /proc/[0-9]*/cmdline | tr '\\0' ' '"))
        after = figures(stack)
        soak.report(before, after)
        wrong = soak.wrong(before, after)
        for line in wrong:
            print(f"error: {line}")
        return 1 if wrong else 0
    finally:
        stack.remove()


if __name__ == "__main__":
    sys.exit(main())
