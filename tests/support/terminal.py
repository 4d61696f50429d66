"""bash in a terminal of its own, into which a test pastes commands as a reader does."""

import contextlib
import os
import pty
import re
import select
import signal
import subprocess
import termios
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

# What the shell prints when it wants a command, with the status of the last one, and when it wants the rest of one.
PROMPT = re.compile(r"<status (\d+)>$")
MORE = "<more>"
CTRL_C = b"\x03"


@dataclass(frozen=True)
class Shown:
    """What the terminal shows of one command, and the command's exit status."""

    text: str
    status: int


class Terminal:
    """An interactive bash that keeps folder and variables from command to command, and ends with the `with` block.

    `answers` are pairs of a pattern that the end of the output has when a program asks something, and the answer.
    """

    def __init__(self, folder: Path, variables: Mapping[str, str], answers: Mapping[str, str]) -> None:
        self.answers = answers
        self.master, slave = pty.openpty()
        # What is typed is not shown: only what commands print is judged.
        attributes = termios.tcgetattr(slave)
        attributes[3] &= ~termios.ECHO
        termios.tcsetattr(slave, termios.TCSANOW, attributes)
        prompts = {"PS1": "<status $?>", "PS2": MORE, "VIRTUAL_ENV_DISABLE_PROMPT": "1", "HISTFILE": "/dev/null"}
        # setsid makes it the shell's own terminal, whose Ctrl-C reaches what runs in front.
        bash = ("bash", "--norc", "--noprofile", "--noediting", "-i")
        self.shell = subprocess.Popen(
            ["env", "--default-signal=INT", "setsid", "--ctty", *bash],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            cwd=folder,
            env={**os.environ, **variables, **prompts, "TERM": "dumb"},
        )
        os.close(slave)
        self.raw = b""

    @property
    def seen(self) -> str:
        """What the terminal shows since the last line was typed, without colours and carriage returns."""
        return re.sub(r"\x1b\[[0-9;]*m|\r+(?=\n)", "", self.raw.decode(errors="replace"))

    def __enter__(self) -> Self:
        self.wait_for_prompt(30)
        # A command whose first half fails fails, and so does one with a variable that no block has set.
        self.type("set -u -o pipefail")
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.shell.pid, signal.SIGHUP)
        os.close(self.master)
        self.shell.wait(30)

    def type(self, line: str, timeout: float = 240) -> Shown | None:
        """Type a line and wait, at most `timeout` seconds; None where the command goes on in the next line."""
        self.send(line)
        return self.wait_for_prompt(timeout)

    def type_until_ctrl_c(self, line: str, timeout: float = 60) -> Shown:
        """Type a line, press Ctrl-C once it has printed one, and wait for its end.

        Raises AssertionError where it ends by itself within a second of its first line.
        """
        self.send(line)
        until = time.monotonic() + timeout
        while "\n" not in self.seen:
            self.read(until)
        ended = None
        with contextlib.suppress(AssertionError):
            ended = self.wait_for_prompt(1)
        assert not ended, f"ended with {ended.status} before Ctrl-C after:\n{ended.text}"
        os.write(self.master, CTRL_C)
        shown = self.wait_for_prompt(timeout)
        assert shown
        return shown

    def send(self, line: str) -> None:
        self.raw = b""
        os.write(self.master, line.encode() + b"\n")

    def wait_for_prompt(self, timeout: float) -> Shown | None:
        until = time.monotonic() + timeout
        answered = 0
        while not (prompt := PROMPT.search(self.seen)):
            if self.seen.endswith(MORE):
                return None
            for question, answer in self.answers.items():
                if re.search(question, self.seen[answered:]):
                    answered = len(self.seen)
                    os.write(self.master, answer.encode() + b"\n")
            self.read(until)
        return Shown(self.seen[: prompt.start()], int(prompt[1]))

    def read(self, until: float) -> None:
        """Wait for more output. Raises AssertionError with what there is where it does not come, or the shell ended."""
        ready, _, _ = select.select([self.master], [], [], max(0, until - time.monotonic()))
        assert ready, f"nothing more came in time after:\n{self.seen}"
        try:
            more = os.read(self.master, 1 << 16)
        except OSError:
            more = b""
        assert more, f"the shell has ended after:\n{self.seen}"
        self.raw += more
