"""Which files the kernel may send."""

import gzip
import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.core.files import File

from dockerable.application.plain_file import is_plain

PLAIN: dict[str, Callable[[Path], Any]] = {
    "opened": lambda path: path.open("rb"),
    "for writing, too": lambda path: path.open("r+b"),
    "without a buffer": lambda path: path.open("rb", buffering=0),
    "as text": lambda path: path.open(),
    "Django's": lambda path: File(path.open("rb")),
}


class Decrypting(io.FileIO):
    def read(self, size: int | None = -1) -> bytes:  # type: ignore[override]
        return bytes(255 - byte for byte in super().read(size))


class Reading(File):
    def read(self, size: int = -1) -> bytes:
        return b"other bytes"


class Like:
    """What has a descriptor, and says nothing about what it reads."""

    def __init__(self, path: Path) -> None:
        self.file = path.open("rb")
        self.fileno = self.file.fileno

    def read(self, size: int = -1) -> bytes:
        return self.file.read(size)[::-1]


def read_in_part(path: Path) -> io.BufferedReader:
    opened = path.open("rb")
    opened.seek(3)
    return opened


def replaced(path: Path) -> io.BufferedReader:
    opened = path.open("rb")
    opened.read = lambda size=-1: b""  # type: ignore[method-assign,assignment]
    return opened


def pipe(_: Path) -> Any:
    reading, writing = os.pipe()
    os.close(writing)
    return os.fdopen(reading, "rb")


def said_to_be_empty(_: Path) -> io.BufferedReader:
    return Path("/proc/self/status").open("rb")


def closed(path: Path) -> io.BufferedReader:
    opened = path.open("rb")
    opened.close()
    return opened


OTHER: dict[str, Callable[[Path], Any]] = {
    "gzip": gzip.open,
    "in memory": lambda _: io.BytesIO(b"abc"),
    "pipe": pipe,
    "decrypting": Decrypting,
    "decrypting, buffered": lambda path: io.BufferedReader(Decrypting(path)),
    "Django's, decrypting": lambda path: File(Decrypting(path)),
    "Django's, with a read() of its own": lambda path: Reading(path.open("rb")),
    "Django's, in memory": lambda _: File(io.BytesIO(b"abc")),
    "gzip as text": lambda path: io.TextIOWrapper(gzip.GzipFile(path)),
    "with a descriptor": Like,
    "read in part": read_in_part,
    "with another read()": replaced,
    "said to be empty": said_to_be_empty,
    "closed": closed,
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "content").write_bytes(b"content")
    return tmp_path / "content"


@pytest.mark.parametrize("kind", PLAIN)
def test_a_regular_file_is_plain(kind: str, path: Path) -> None:
    assert is_plain(PLAIN[kind](path))


@pytest.mark.parametrize("kind", OTHER)
def test_what_reads_otherwise_than_its_descriptor_is_not(kind: str, path: Path) -> None:
    assert not is_plain(OTHER[kind](path))
