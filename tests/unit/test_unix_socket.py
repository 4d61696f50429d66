"""Requests to a program over its Unix socket."""

import socket
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from dockerable.container.probes import ask


class Slow(socket.socket):
    """A client that does not go on at once when it is connected."""

    def connect(self, address: Any) -> None:
        super().connect(address)
        time.sleep(0.2)


def test_who_answers_and_closes_before_being_asked_is_heard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def answer() -> None:
        connection, _ = listener.accept()
        connection.sendall(b"{}")
        connection.close()

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
        listener.listen()
        monkeypatch.setattr("dockerable.container.probes.socket.socket", Slow)
        threading.Thread(target=answer).start()
        assert ask(str(tmp_path / "socket")) == b"{}"


def test_who_says_nothing_is_waited_for_no_longer_than_asked(tmp_path: Path) -> None:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "socket"))
    listener.listen()
    began = time.monotonic()
    with listener, pytest.raises(TimeoutError):
        ask(str(tmp_path / "socket"), b"GET", patience=0.2)
    assert 0.2 <= time.monotonic() - began < 5
