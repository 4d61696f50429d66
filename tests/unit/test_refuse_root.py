"""uid 0 is refused by each program that writes, before it does anything."""

import os
from collections.abc import Callable

import pytest

from dockerable.application import start
from dockerable.certificates import certbot, program
from dockerable.container import init, manage, places, refuse_root, reload
from dockerable.supervision import supervise
from tests.support.docker import ROOT

MAINS: dict[str, Callable[[list[str]], int]] = {
    "application": start.main,
    "certbot": certbot.main,
    "certificate": program.main,
    "cmd": init.main,
    "manage": manage.main,
    "reload": reload.main,
    "supervise": supervise.main,
}


@pytest.mark.parametrize("name", MAINS)
def test_a_program_that_writes_refuses_root(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert MAINS[name](["renew"]) == 64
    assert capsys.readouterr() == ("", f"{name}: error: {refuse_root.MESSAGE}\n")


def test_every_other_program_only_reads() -> None:
    launchers = {launcher.name for launcher in (ROOT / "dockerable/bin").iterdir()}
    # init's lines have the tag cmd.
    assert launchers - (MAINS.keys() - {"cmd"}) == {"healthcheck", "init"}


def test_cmd_sh_has_the_same_messages() -> None:
    script = (ROOT / "dockerable/cmd.sh").read_text()
    assert f'die 64 "error: {refuse_root.MESSAGE}"' in script
    assert f"ROOM_IN_RUN='{places.ROOM_IN_RUN}'" in script
