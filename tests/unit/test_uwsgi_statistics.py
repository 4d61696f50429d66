"""Parsing uWSGI's statistics."""

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from dockerable.container import uwsgi_statistics, watchdog

# What uWSGI 2.0.31 says of a worker, with much of it left out.
IDLE = {"id": 1, "pid": 31, "accepting": 1, "requests": 7, "exceptions": 0, "harakiri_count": 1, "status": "idle"}
BUSY = {"id": 2, "pid": 32, "accepting": 0, "requests": 5, "exceptions": 2, "harakiri_count": 2, "status": "busy"}


@contextmanager
def answering(answer: bytes, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A statistics socket that gives this answer once."""

    def serve() -> None:
        connection, _ = listener.accept()
        connection.sendall(answer)
        connection.close()

    place = folder / "stats.sock"
    monkeypatch.setattr(uwsgi_statistics, "UWSGI_STATISTICS", place)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(place))
        listener.listen()
        thread = threading.Thread(target=serve)
        thread.start()
        yield
        thread.join()


def test_each_worker_is_read_by_its_fields(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with answering(json.dumps({"version": "2.0.31", "workers": [IDLE, BUSY]}).encode(), tmp_path, monkeypatch):
        first, second = uwsgi_statistics.workers()
    assert vars(first) == {
        **{"number": 1, "pid": 31, "status": "idle", "accepting": True, "requests": 7, "harakiri_count": 1}
    }
    assert (second.number, second.status, second.accepting) == (2, "busy", False)


def test_the_watchdog_takes_the_sums(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with answering(json.dumps({"workers": [IDLE, BUSY]}).encode(), tmp_path, monkeypatch):
        assert watchdog.progress(watchdog.workers(patience=5) or []) == (12, 3)


@pytest.mark.parametrize("answer", [b"", b'{"workers": [{"id"', b"{}", b'{"workers": [{"id": 1}]}', b"[]", b"7"])
def test_an_answer_that_is_not_the_statistics_is_a_value_error(
    answer: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with answering(answer, tmp_path, monkeypatch), pytest.raises(ValueError):
        uwsgi_statistics.workers()


def test_where_nobody_answers_it_is_an_os_error_and_the_watchdog_sees_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uwsgi_statistics, "UWSGI_STATISTICS", tmp_path / "none")
    with pytest.raises(OSError):
        uwsgi_statistics.workers()
    assert watchdog.workers(patience=5) is None
