"""ctl's help, and its answers to unknown words, without an engine."""

import re
import subprocess
from pathlib import Path

import pytest

from tests.support.docker import ROOT, run

COMMANDS = ("build", "up", "down", "reload", "logs", "manage", "sh", "cert", "ps", "help")


def say(*words: str) -> subprocess.CompletedProcess[str]:
    """Run the repository's ctl with an unreachable engine, so that nothing is started by accident."""
    dead = {"DOCKER_HOST": "unix:///nonexistent/docker.sock"}
    return run(ROOT / "dockerable/ctl", *words, check=False, env=dead, cwd=Path("/"))


def test_help_names_every_command_and_its_absence_is_an_error() -> None:
    told = say("help")
    assert (told.returncode, told.stderr) == (0, "")
    assert set(re.findall(r"^  ([a-z]+)\b", told.stdout, re.MULTILINE)) == set(COMMANDS)
    assert say("--help").stdout == told.stdout
    nothing = say()
    assert (nothing.returncode, nothing.stdout, nothing.stderr) == (64, "", told.stdout)


@pytest.mark.parametrize(
    ("typed", "nearest"),
    [("upp", "up"), ("biuld", "build"), ("log", "logs"), ("mange", "manage"), ("donw", "down"), ("pss", "ps")],
)
def test_an_unknown_word_gets_the_nearest_command(typed: str, nearest: str) -> None:
    told = say(typed)
    assert (told.returncode, told.stdout) == (64, "")
    assert f"did you mean '{nearest}'?" in told.stderr


@pytest.mark.parametrize("typed", ["new", "deploy", "x", "restart-everything"])
def test_a_word_that_is_near_nothing_gets_the_list(typed: str) -> None:
    for told in (say(typed), say("help", typed), say(typed, "--help")):
        assert (told.returncode, told.stdout) == (64, "")
        assert "did you mean" not in told.stderr
        assert f"there are: {' '.join(COMMANDS)} (" in told.stderr


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_tells_of_itself(command: str) -> None:
    told = say("help", command)
    assert (told.returncode, told.stderr) == (0, "")
    usage, empty, first, *options = told.stdout.splitlines()
    assert usage == f"Usage: dockerable/ctl [--dry-run] [--install-engine] {command}"
    assert empty == "" and re.match(rf"  {command}\b", first)
    assert all(re.match(r"       -", line) for line in options)
    # Each line of a command's help is also in the whole help.
    assert set(told.stdout.splitlines()[2:]) <= set(say("help").stdout.splitlines())
    assert say(command, "--help").stdout == say(command, "-h").stdout == told.stdout


def test_help_is_given_wherever_it_is_asked_for_but_to_manage() -> None:
    assert say("up", "local", "--help").stdout == say("help", "up").stdout
    assert "wait N seconds at most" in say("help", "up").stdout
    told = say("manage", "local", "check", "--help")
    assert (told.returncode, told.stdout) == (69, "")
