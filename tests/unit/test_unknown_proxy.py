"""The warning about a proxy that is not trusted: once an hour, whatever the number of requests and workers."""

import os
import time
from pathlib import Path

import pytest

from dockerable.application import unknown_proxy
from dockerable.application.unknown_proxy import HOUR, warn_of


@pytest.fixture(autouse=True)
def another_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unknown_proxy, "_silent_until", 0.0)


def lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return capsys.readouterr().err.splitlines()


def test_it_names_the_address_and_the_variable_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(3):
        warn_of("172.18.0.5", tmp_path / "stamp")
    (line,) = lines(capsys)
    assert line.startswith("warning: ")
    assert "TRUSTED_PROXIES=172.18.0.5" in line


def test_other_workers_are_silent_for_an_hour(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    stamp = tmp_path / "stamp"
    said = []
    for age in (0, HOUR - 60, HOUR + 60, 0, -HOUR - 60):
        if stamp.exists():
            os.utime(stamp, (time.time() - age,) * 2)
        monkeypatch.setattr(unknown_proxy, "_silent_until", 0.0)
        warn_of("172.18.0.5", stamp)
        said.append(len(lines(capsys)))
    # The last: the clock was put back.
    assert said == [1, 0, 1, 0, 1]


def test_where_it_cannot_be_noted_each_worker_warns(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):
        warn_of("172.18.0.5", tmp_path / "none" / "stamp")
    assert len(lines(capsys)) == 1
