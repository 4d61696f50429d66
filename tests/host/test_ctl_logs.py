"""`ctl logs` with its filters, and `ctl up` without a syslog."""

import os
import re
import shlex
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.support.compose import left_of, remove_project
from tests.support.docker import IMAGE, docker, run, unique
from tests.support.tree import copy_tree
from tests.support.wait import free_port, wait_until

CHECK_SYSLOG = ("python3", "-m", "dockerable.cli.check_syslog")
ID = "0123456789abcdef0123456789abcdef"
LINES = rf"""
cmd: project.settings.local.settings serves localhost
nginx.access: 10.0.0.1 "GET /a HTTP/1.1" 200 {ID}
nginx.access: warning: 10.0.0.1 "GET /uwsgi: HTTP/1.1" 200 other
nginx.error: error: open() failed
uwsgi: nginx.access: worker 1
django: error: {ID} ValueError\nTraceback:\n  File "x.py", line 1
nginxxerror: none of ours
{{"event.dataset":"nginx.access","message":"uwsgi: x","http.request.id":"{ID}"}}
{{"@timestamp":"2026-11-21T12:00:00Z","event.dataset":"django","message":"two\nlines [a.b*]"}}
django: shop: read C:\\new\nand more
""".strip().splitlines()

RARE_FAULTS = [pytest.param(way, marks=pytest.mark.slow) for way in ("another kind of socket", "no host")]
RARE_SCHEMES = [pytest.param(scheme, marks=pytest.mark.slow) for scheme in ("unix", "udp")]


class Environment:
    """An environment `demo` in a copy of the repository: a container that prints lines."""

    def __init__(self, tree: Path, service: dict[str, object]) -> None:
        self.program, self.name = tree / "dockerable/ctl", unique("logs")
        folder = tree / "project/settings/demo"
        folder.mkdir()
        (folder / "lines").write_text("".join(f"{line}\n" for line in LINES))
        shown = {"image": IMAGE, "command": ["cat", "/demo/lines"], "volumes": [".:/demo:ro"], "network_mode": "none"}
        shown["stop_signal"] = "KILL"
        self.file = folder / "docker-compose.yml"
        self.file.write_text(yaml.safe_dump({"services": {"web": {**shown, **service}}}))
        self.variables = {"COMPOSE_PROJECT_NAME": self.name, "IMAGE": IMAGE}

    def ctl(self, *words: str) -> subprocess.CompletedProcess[str]:
        return run(self.program, *words, check=False, env=self.variables, cwd=Path("/"))

    def containers(self) -> list[str]:
        return docker("ps", "-aq", "--filter", f"label=com.docker.compose.project={self.name}").split()

    def remove(self) -> None:
        remove_project(self.name)


@pytest.fixture(scope="module")
def printed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Environment]:
    """The environment once it has printed its lines; it prints one more each second."""
    tree = copy_tree(tmp_path_factory.mktemp("tree") / "site")
    more = 'cat /demo/lines; n=0; while sleep 0.5; do n=$((n + 1)); echo "certbot: $n"; done'
    environment = Environment(tree, {"command": ["sh", "-c", more.replace("$", "$$")]})
    try:
        run("docker-compose", "-f", environment.file, "up", "-d", env=environment.variables)
        wait_until(lambda: "certbot: 1" in environment.ctl("logs", "demo").stdout)
        yield environment
    finally:
        environment.remove()


def texts(*numbers: int) -> list[str]:
    """Lines as they are shown."""
    shown = [LINES[number] for number in numbers]
    newlines = [line if line[0] == "{" else re.sub(r"(?<!\\)\\n", "\n    ", line) for line in shown]
    return [part.replace(r"C:\\n", r"C:\n") for line in newlines for part in line.split("\n")]


@pytest.mark.parametrize(
    ("words", "numbers"),
    [
        ([], range(10)),
        (["nginx"], [1, 2, 3, 7]),
        (["nginx.error"], [3]),
        (["uwsgi"], [4]),
        (["django", "cmd"], [0, 5, 8, 9]),
        (["--request", ID], [1, 5, 7]),
        (["nginx", "--request", ID], [1, 7]),
        (["--request", "[a.b*]"], [8]),
        (["--request", "a.b/c\\n"], []),
        (["supervisor"], []),
    ],
    ids=lambda value: " ".join(value)[:24] if value and isinstance(value, list) and isinstance(value[0], str) else None,
)
def test_logs_shows_what_was_asked_for(printed: Environment, words: list[str], numbers: list[int]) -> None:
    told = printed.ctl("logs", "demo", *words)
    assert (told.returncode, told.stderr) == (0, "")
    assert [line for line in told.stdout.splitlines() if not line.startswith("certbot: ")] == texts(*numbers)


def test_a_traceback_is_shown_as_indented_lines(printed: Environment) -> None:
    told = printed.ctl("logs", "demo", "django").stdout
    assert told.startswith(f'django: error: {ID} ValueError\n    Traceback:\n      File "x.py", line 1\n{{')


def test_since_leaves_out_what_was_before(printed: Environment) -> None:
    wait_until(lambda: printed.ctl("logs", "demo").stdout.count("certbot: ") > 6)
    told = printed.ctl("logs", "demo", "--since", "2s").stdout.splitlines()
    assert 0 < len(told) < 7
    assert all(line.startswith("certbot: ") for line in told)


def test_two_can_follow_and_end_when_their_reader_does(printed: Environment) -> None:
    command = shlex.join([str(printed.program), "logs", "demo", "certbot", "-f"])
    shell = ["sh", "-c", f"{command} | head -n 3"]
    environment = {**os.environ, **printed.variables}
    readers = [subprocess.Popen(shell, stdout=subprocess.PIPE, text=True, env=environment) for _ in range(2)]
    for reader in readers:
        told, _ = reader.communicate(timeout=30)
        assert told.splitlines() == ["certbot: 1", "certbot: 2", "certbot: 3"]


def test_an_interrupt_ends_the_whole_pipeline(printed: Environment) -> None:
    command = [str(printed.program), "logs", "demo", "certbot", "-f"]
    environment = {**os.environ, **printed.variables}
    following = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment, start_new_session=True)
    assert following.stdout
    assert following.stdout.readline() == "certbot: 1\n"
    os.killpg(following.pid, signal.SIGINT)
    # The end of the pipe comes when nothing holds it any more.
    following.communicate(timeout=10)
    assert following.returncode != 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["apache"], "there is no program 'apache'; there are: nginx nginx.access nginx.error uwsgi django"),
        (["nginx.*"], "there is no program 'nginx.*'"),
        (["-x"], "logs has no option '-x'"),
        (["--since"], "--since takes a time"),
        (["--request", ""], "--request takes an id"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_logs_refuses_what_it_does_not_know(printed: Environment, words: list[str], said: str) -> None:
    told = printed.ctl("logs", "demo", *words)
    assert (told.returncode, told.stdout) == (64, "")
    assert said in told.stderr


def test_a_failure_of_docker_is_the_status_of_logs(printed: Environment) -> None:
    told = printed.ctl("logs", "demo", "nginx", "--since", "nonsense")
    assert told.returncode not in (0, 64)
    assert "nonsense" in told.stderr


def test_a_dry_run_prints_the_pipeline_that_can_be_pasted(printed: Environment) -> None:
    told = printed.ctl("--dry-run", "logs", "demo", "nginx", "--request", ID).stdout
    pasted = run("sh", "-c", told.replace("CONTAINER", printed.containers()[0])).stdout
    assert pasted.splitlines() == texts(1, 7)


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="log") as folder:
        yield Path(folder)


def logging_to(address: str) -> dict[str, object]:
    return {"logging": {"driver": "syslog", "options": {"syslog-address": address}}}


@pytest.mark.parametrize("way", ["no socket", "nobody at the socket", "no port", *RARE_FAULTS])
def test_up_says_that_nothing_listens_and_starts_nothing(tmp_path: Path, folder: Path, way: str) -> None:
    address = f"unixgram://{folder}/log"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as other:
        if way == "another kind of socket":
            other.bind(f"{folder}/log")
            other.listen()
        elif way == "nobody at the socket":
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as dead:
                dead.bind(f"{folder}/log")
        elif way == "no port":
            address = f"tcp://127.0.0.1:{free_port()}"
        elif way == "no host":
            address = "tcp://nowhere.invalid:514"
        environment = Environment(copy_tree(tmp_path / "site"), logging_to(address))
        told = environment.ctl("up", "demo", "--no-build")
    assert (told.returncode, told.stdout) == (69, "")
    last = told.stderr.splitlines()[-1]
    assert f"nothing listens at {address}, where demo logs to (" in last
    assert "dockerable/host/install-syslog.sh" in last and "SYSLOG_ADDRESS" in last
    assert "starting demo" not in told.stderr
    assert left_of(environment.name) == []


@pytest.mark.parametrize("scheme", ["unixgram", "tcp", *RARE_SCHEMES])
def test_up_starts_where_somebody_listens(tmp_path: Path, folder: Path, scheme: str) -> None:
    family = socket.AF_UNIX if scheme.startswith("unix") else socket.AF_INET
    port = free_port()
    place: str | tuple[str, int] = f"{folder}/log" if family == socket.AF_UNIX else ("127.0.0.1", port)
    address = f"{scheme}://{place if isinstance(place, str) else f'{place[0]}:{place[1]}'}"
    kind = socket.SOCK_STREAM if scheme in ("unix", "tcp") else socket.SOCK_DGRAM
    with socket.socket(family, kind) as listener:
        # Nobody knows whether there is one.
        if scheme != "udp":
            listener.bind(place)
        if kind == socket.SOCK_STREAM:
            listener.listen()
        environment = Environment(copy_tree(tmp_path / "site"), {**logging_to(address), "command": ["sleep", "60"]})
        try:
            told = environment.ctl("up", "demo", "--no-build", "--timeout", "0")
            assert "demo is not healthy after 0 s" in told.stderr
            assert len(environment.containers()) == 1
        finally:
            environment.remove()


def test_the_checking_program_is_in_the_image() -> None:
    """Where it is missing, ctl would go on without a word."""
    assert run("docker", "run", "--rm", IMAGE, *CHECK_SYSLOG, "tcp://127.0.0.1:1", check=False).returncode == 69
