"""dockerable/ctl and tests/run.sh without an engine: refusals, remedies, dry runs."""

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.docker import ROOT, run
from tests.support.tree import copy_tree

DEAD = {"DOCKER_HOST": "unix:///nonexistent/docker.sock"}


Done = subprocess.CompletedProcess[str]


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the repository, in a folder with a space in its name."""
    return copy_tree(tmp_path_factory.mktemp("tree") / "my projects" / "site")


@pytest.fixture(scope="module")
def without_docker(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A PATH with everything of this host but docker."""
    folder = tmp_path_factory.mktemp("bin")
    for place in ("/usr/bin", "/bin", "/usr/sbin", "/sbin"):
        for program in Path(place).glob("*"):
            if not program.name.startswith("docker") and not (link := folder / program.name).is_symlink():
                link.symlink_to(program)
    return {"PATH": str(folder)}


def say(*words: str, **variables: str) -> Done:
    """Run the repository's ctl with an unreachable engine, so that nothing is started by accident."""
    return run(ROOT / "dockerable/ctl", *words, check=False, env={**DEAD, **variables}, cwd=Path("/"))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["up local"], "there are: build up down "),
        (["--fast", "ps"], "no option '--fast'"),
        (["ps", "all"], "ps takes no argument"),
        (["build", "local"], "build takes no argument"),
        (["up", "local", "--fast"], "no option '--fast'"),
        (["up", "local", "example"], "takes one environment"),
        (["up", "local", "--timeout"], "a number of seconds"),
        (["up", "local", "--timeout", "soon"], "a number of seconds, not 'soon'"),
        (["up", "local", "--timeout=-1"], "a number of seconds"),
        (["down", "local", "example"], "takes one environment"),
        (["down", "local", "--all"], "no option '--all'"),
        (["logs", "local", "--all"], "no option '--all'"),
        (["sh", "local", "ls"], "takes one environment"),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(value),
)
def test_what_ctl_does_not_know_is_refused(words: list[str], said: str) -> None:
    told = run(ROOT / "dockerable/ctl", *words, check=False)
    assert (told.returncode, told.stdout) == (64, "")
    assert said in told.stderr


@pytest.mark.parametrize("command", ["up", "down", "logs", "manage", "sh"])
@pytest.mark.parametrize("words", [[], ["nowhere"]], ids=["none", "unknown"])
def test_an_unknown_environment_gets_the_list_of_those_there_are(command: str, words: list[str]) -> None:
    told = run(ROOT / "dockerable/ctl", command, *words, check=False)
    assert (told.returncode, told.stdout) == (64, "")
    assert re.search(r"there are: (\w+ )*example (\w+ )*local\b", told.stderr, re.IGNORECASE)


@pytest.mark.parametrize("words", [["ps"], ["build"], ["up", "local"], ["manage", "local", "check"]], ids=" ".join)
def test_without_an_engine_ctl_says_the_remedy(words: list[str], without_docker: dict[str, str]) -> None:
    for told in (say(*words), say(*words, **without_docker), say(*words, **without_docker, DOCKER_HOST="")):
        assert (told.returncode, told.stdout) == (69, "")
        assert told.stderr.startswith("ctl: error: no Docker Engine answers")
        assert "remedy" in told.stderr and "--install-engine" in told.stderr
        assert told.stderr.count("\n") == 1


def test_without_an_engine_the_tests_say_the_remedy(without_docker: dict[str, str]) -> None:
    for environment in (DEAD, without_docker):
        told = run(ROOT / "tests/run.sh", check=False, env=environment, cwd=Path("/"))
        assert (told.returncode, told.stdout) == (69, "")
        assert told.stderr.startswith("run.sh: error: no Docker Engine answers")
        assert "remedy" in told.stderr and "--install-engine" in told.stderr


def test_the_unit_tests_need_no_engine(without_docker: dict[str, str]) -> None:
    told = run(ROOT / "tests/run.sh", "unit", "--collect-only", "-q", "-n", "0", env={**DEAD, **without_docker})
    collected = re.findall(r"^tests/(\w+)/\w+\.py", told.stdout, re.MULTILINE)
    assert set(collected) == {"unit"}


def test_the_tests_help_says_what_can_be_asked_for() -> None:
    told = run(ROOT / "tests/run.sh", "help", env=DEAD)
    assert told.stdout.startswith("run.sh: ") and told.stderr == ""
    assert re.findall(r"^  (\w+) ", told.stdout, re.MULTILINE) == ["full", "unit", "soak"]
    assert run(ROOT / "tests/run.sh", "--help", env=DEAD).stdout == told.stdout


@pytest.mark.parametrize(
    ("words", "commands"),
    [
        (["build"], [["docker", "build"]]),
        (["up", "local"], [["docker", "build"], ["docker-compose", "up", "-d"]]),
        (["up", "local", "--no-build"], [["docker-compose", "up", "-d"]]),
        (["down", "local", "--volumes"], [["docker-compose", "down", "--volumes"]]),
        (["logs", "local", "-f"], [["docker", "logs", "-f"]]),
        (["manage", "local", "shell", "-c", "print('a b')"], [["docker-compose", "exec", "manage", "print('a b')"]]),
        (["sh", "local"], [["docker-compose", "exec", "web", "sh"]]),
        (["ps"], [["docker", "ps", "-a"]]),
        (["--install-engine", "ps"], [["sh", "dockerable/host/install-engine.sh"], ["docker", "ps"]]),
    ],
    ids=lambda value: " ".join(value) if value and isinstance(value[0], str) else "",
)
def test_a_dry_run_prints_the_commands_and_runs_nothing(
    tree: Path, tmp_path: Path, words: list[str], commands: list[list[str]]
) -> None:
    (tmp_path / "fake").mkdir()
    for name in ("docker", "docker-compose", "sudo", "apt-get"):
        fake = tmp_path / "fake" / name
        fake.write_text(f'#!/bin/sh\necho "{name} $*" >>"{tmp_path}/called"\nexit 1\n')
        fake.chmod(0o755)
    path = f"{tmp_path / 'fake'}:/usr/bin:/bin"
    told = run(tree / "dockerable/ctl", "--dry-run", *words, env={"PATH": path}, cwd=Path("/"))
    # Each line could be pasted into a shell, whatever is in its words.
    printed = [shlex.split(line) for line in told.stdout.splitlines() if not line.startswith("docker pull ")]
    assert len(printed) == len(commands)
    for line, wanted in zip(printed, commands, strict=True):
        assert line[0].endswith(wanted[0])
        words = [word.removeprefix(f"{tree}/") for word in line[1:]]
        assert [word for word in words if word in wanted[1:]] == wanted[1:]
        if line[0] == "docker-compose":
            assert line[1:3] == ["-f", str(tree / "project/settings/local/docker-compose.yml")]
    called = (tmp_path / "called").read_text().splitlines() if (tmp_path / "called").exists() else []
    only_asked = {"docker compose version", "docker image inspect", "docker inspect -f"}
    assert {" ".join(call.split()[:3]) for call in called} <= only_asked


@pytest.mark.parametrize(
    ("written", "shell", "built"),
    [
        ("IMAGE=shop:7", "", "shop:7"),
        ("IMAGE=shop:6\n# IMAGE=shop:5\nexport IMAGE = 'shop:7' # ours\r", "", "shop:7"),
        ('IMAGE="registry.example.com:5000/shop:7"', "", "registry.example.com:5000/shop:7"),
        ("IMAGE=shop:7", "shop:8", "shop:8"),
        ("IMAGE=\nBASE_IMAGE=debian:13", "", "dockerable:latest"),
    ],
)
def test_the_image_is_the_shells_else_the_environments(
    tree: Path, without_docker: dict[str, str], written: str, shell: str, built: str
) -> None:
    file = tree / "project/settings/local/.env"
    before = file.read_text()
    try:
        file.write_text(f"{before}{written}\n")
        told = run(tree / "dockerable/ctl", "--dry-run", "up", "local", env={**without_docker, "IMAGE": shell})
        other = run(tree / "dockerable/ctl", "--dry-run", "up", "example", env={**without_docker, "IMAGE": shell})
    finally:
        file.write_text(before)
    assert f" -t {built} " in told.stdout
    assert f" -t {shell or 'dockerable:latest'} " in other.stdout


@pytest.mark.parametrize("shell", ["dash", "bash --posix"])
def test_ctl_runs_under_any_posix_shell(shell: str) -> None:
    if not shutil.which(shell.split()[0]):
        pytest.skip(f"{shell} is not here")
    for words, status in ((["help"], 0), (["upp"], 64), (["--dry-run", "up", "local"], 0)):
        told = run(*shell.split(), ROOT / "dockerable/ctl", *words, check=False, env=DEAD)
        assert told.returncode == status, told.stderr
    assert run(*shell.split(), "-n", ROOT / "dockerable/ctl").stderr == ""
