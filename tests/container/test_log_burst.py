"""The log under load: each line once, whole and tagged, also if programs are killed or stdout's reader stops."""

import re
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from dockerable.container import relay
from tests.support.docker import LABEL, docker, until_healthy
from tests.support.stack import Stack
from tests.support.tree import helper_image
from tests.support.wait import wait_until

FILE = "/static/start/start.css"
# This engine would by default keep only three files of 10 MB.
OPTIONS = ("--log-opt", "max-size=500m")
ACCESS = re.compile(
    rf'nginx\.access: 127\.0\.0\.1 "GET {FILE} HTTP/1\.1" 200 \d+ \S+s uwsgi - "-" "h2load[^"]*" ([0-9a-f]{{32}})'
)
TEXT = re.compile(r"(nginx\.access|nginx\.error|uwsgi|django|supervisor|cmd): .")
CHATTER = re.compile(r"(?:uwsgi|django: chatter \[[0-9a-f]{32}\]): (\w+) (\d+) \.{100}")
# kill -9 of all processes whose command line has this word; without one of all but PID 1 and this.
KILL = """
import os, pathlib, signal, sys
if len(sys.argv) < 2:
    os.kill(-1, signal.SIGKILL)
for place in pathlib.Path("/proc").glob("[0-9]*"):
    if place.name not in ("1", str(os.getpid())) and sys.argv[1].encode() in (place / "cmdline").read_bytes():
        os.kill(int(place.name), signal.SIGKILL)
"""


@pytest.fixture(scope="module")
def image() -> str:
    return helper_image("load")


@pytest.fixture
def stack(new_stack: Callable[[Stack], Stack]) -> Stack:
    """One whose log is not rotated; a view may write for a while."""
    return new_stack(Stack.trial({"UWSGI_PROCESSES": "3"}, options=OPTIONS))


def static_requests(image: str, stack: Stack, count: int) -> str:
    """`count` requests of nginx alone, from the container's own loopback; what h2load tells of them."""
    words = ("run", "--rm", "--label", LABEL, "--network", f"container:{stack.name}", image)
    command = ("h2load", "--h1", "-n", str(count), "-c", "16", f"http://127.0.0.1:8080{FILE}")
    return docker(*words, *command, timeout=200)


def sort(log: str) -> tuple[Counter[str], dict[str, list[int]], list[str]]:
    """Ids of requests, numbers by source and writer in their order, and all other lines."""
    ids: Counter[str] = Counter()
    numbers: dict[str, list[int]] = {}
    others = []
    for line in log.splitlines():
        if found := ACCESS.fullmatch(line):
            ids[found[1]] += 1
        elif found := CHATTER.fullmatch(line):
            numbers.setdefault(f"{line.partition(':')[0]} {found[1]}", []).append(int(found[2]))
        else:
            others.append(line)
    return ids, numbers, others


def resident(stack: Stack) -> int:
    """Megabytes of memory that PID 1 takes."""
    return int(re.findall(r"VmRSS:\s+(\d+) kB", stack.exec("cat", "/proc/1/status"))[0]) // 1024


def test_of_200000_lines_none_is_lost_or_mixed(stack: Stack, image: str) -> None:
    requests, lines, writers = 80_000, 20_000, ("a", "b", "c")
    stack.up()
    before = resident(stack)
    with stack.client(timeout=200) as client, ThreadPoolExecutor() as pool:
        told = pool.submit(static_requests, image, stack, requests)
        chatting = [pool.submit(client.get, f"/chatter/{lines}?name={name}") for name in writers]
        assert f"{requests} succeeded" in told.result()
        assert {chat.result().status_code for chat in chatting} == {200}

    def complete() -> tuple[Counter[str], dict[str, list[int]], list[str]] | None:
        found = sort(stack.logs())
        chatter = [found[1].get(f"{source} {name}", []) for source in ("uwsgi", "django") for name in writers]
        return found if sum(found[0].values()) == requests and all(len(one) >= lines for one in chatter) else None

    ids, numbers, others = wait_until(complete, 120, every=1)
    assert set(ids.values()) == {1}
    for name in writers:
        assert numbers[f"uwsgi {name}"] == numbers[f"django {name}"] == list(range(lines))
    # A short story, and the lines of the requests that made the chatter.
    assert len(others) < 20, others
    print(f"PID 1 takes {before} MB before the burst and {resident(stack)} MB after it")
    # The reader may be slow at the moment, and what waits for it is kept in memory.
    assert resident(stack) <= before + relay.QUEUE / 2**20


@pytest.mark.parametrize("killed", [pytest.param("bin/application", marks=pytest.mark.slow), "nginx", ""])
def test_a_kill_in_a_burst_takes_no_line_of_others_along(stack: Stack, image: str, killed: str) -> None:
    stack.allowed = ["killed by signal 9|exited on signal 9| 502 |was killed during GET /chatter"]
    # The last one: the workers of a killed nginx may still be there when the next one starts.
    stack.allowed += [r"upstream prematurely|connect\(\)|recv\(\) failed|bind\(\) to .* failed"]
    requests, endless, writers = 30_000, 10_000_000, ("a", "b")
    stack.up()

    def writing(*tags: str) -> bool:
        tail = docker("logs", "--tail", "1000", stack.name)
        return all(f"\n{tag}: " in tail for tag in tags)

    with ThreadPoolExecutor() as pool:
        asked = [pool.submit(stack.get, f"/chatter/{endless}?name={name}") for name in writers]
        wait_until(lambda: writing("uwsgi", "django"), every=0.1)
        told = pool.submit(static_requests, image, stack, requests)
        wait_until(lambda: writing("nginx.access"), every=0.1)
        stack.exec("python3", "-c", KILL, *([killed] if killed else []), check=False)
        if killed:
            # uWSGI finishes what it has begun, unless it was uWSGI.
            stack.exec("touch", "/tmp/enough")
        outcomes: list[Future[Any]] = [*asked, told]
        failed = [type(one.exception()).__name__ for one in outcomes]
    print(f"kill -9 of {killed or 'all'}: {failed}")
    assert killed == "bin/application" or failed[:2] == ["RemoteProtocolError"] * 2
    if killed:
        stack.wait_healthy()
        assert stack.stop() == 0
    else:
        assert stack.wait_end() == 70
    ids, numbers, others = sort(stack.logs())
    assert set(ids.values()) == {1}
    for writer in numbers.values():
        assert writer == list(range(len(writer)))
    if killed == "nginx":
        assert all(numbers[f"uwsgi {name}"] == numbers[f"django {name}"] for name in writers)
    if killed == "bin/application":
        assert len(ids) == requests
    assert not [line for line in others if re.search(r"\.{50}|h2load", line) or not TEXT.match(line)]
    assert others[-1] == ("cmd: stopped" if killed else "cmd: error: supervisord was killed by signal 9")


@pytest.mark.slow
def test_requests_are_served_on_while_nobody_reads_and_what_was_lost_is_told(
    new_stack: Callable[[Stack], Stack], image: str
) -> None:
    """Stdout is a FIFO without a reader, until `cat` reads it."""
    command = ("sh", "-c", "mkfifo /run/stdout && exec /app/dockerable/cmd.sh web 3<>/run/stdout >&3")
    stack = new_stack(Stack.trial(command=command)).start()
    assert until_healthy(stack.name, 60)
    requests = 120_000
    assert f"{requests} succeeded" in static_requests(image, stack, requests)
    print(f"PID 1 takes {resident(stack)} MB with its queue full")
    assert resident(stack) <= 32
    assert stack.get("/show").status_code == 200
    # Until it has read the last line it knows of.
    read = "timeout 60 cat /run/stdout | sed '/nobody read the log/q'"
    log = stack.exec("sh", "-c", read)
    ids, _, others = sort(log)
    (lost,) = re.findall(r"lines were lost: nginx\.access (\d+)", others[-1])
    assert set(ids.values()) == {1}
    assert len(ids) > 30_000
    # The line of /show may be among them.
    assert requests <= len(ids) + int(lost) <= requests + 1
    print(f"{len(ids)} lines kept, {lost} lost; PID 1 takes {resident(stack)} MB afterwards")
