"""SQLite's files are made, or opened, for the group: the container's uid may change, its gid does not."""

import errno
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from dockerable.application import sqlite
from dockerable.application.refusals import Final
from dockerable.container.kinds import shown

Make = Callable[..., None]


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch) -> Make:
    """Makes the files of databases with these names, of SQLite unless said otherwise."""

    def files(*names: object, engine: str = "django.db.backends.sqlite3") -> None:
        aliases = ("default", "second", "third")
        databases = {alias: {"ENGINE": engine, "NAME": name} for alias, name in zip(aliases, names, strict=False)}
        monkeypatch.setattr(sqlite, "settings", SimpleNamespace(DATABASES=databases))
        sqlite.make_files()

    return files


@pytest.fixture(autouse=True)
def data_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The test's folder is the data folder."""
    monkeypatch.setenv("DATA_DIR", str(tmp_path))


@pytest.fixture(autouse=True, params=[0o007, 0o022, 0o077], ids=oct)
def umask(request: pytest.FixtureRequest) -> Iterator[None]:
    before = os.umask(request.param)
    yield
    os.umask(before)


def modes(folder: Path) -> dict[str, str]:
    return {file.name: oct(file.stat().st_mode & 0o777) for file in folder.iterdir()}


def test_a_new_file_is_the_groups_too_and_the_others_are_left_to_sqlite(make: Make, tmp_path: Path) -> None:
    make(tmp_path / "db.sqlite3", str(tmp_path / "second"))
    assert modes(tmp_path) == {"db.sqlite3": "0o660", "second": "0o660"}


def test_files_that_are_there_become_the_groups_and_keep_what_they_hold(make: Make, tmp_path: Path) -> None:
    for name, mode in (("db", 0o640), ("db-wal", 0o600), ("db-shm", 0o644)):
        (tmp_path / name).write_text(name)
        (tmp_path / name).chmod(mode)
    make(tmp_path / "db")
    assert modes(tmp_path) == {"db": "0o660", "db-wal": "0o660", "db-shm": "0o664"}
    assert [(tmp_path / name).read_text() for name in ("db", "db-wal", "db-shm")] == ["db", "db-wal", "db-shm"]


@pytest.mark.parametrize("name", ["", ":memory:", "file:memorydb?mode=memory&cache=shared:memory:", "file:db?mode=ro"])
def test_a_database_in_memory_has_no_file(
    name: str, make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    make(name)
    assert modes(tmp_path) == {}


def test_a_server_has_no_file(make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    make("app", engine="django.db.backends.postgresql")
    assert modes(tmp_path) == {}


def test_a_file_of_another_uid_serves_as_it_is(make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(descriptor: int, mode: int) -> None:
        raise PermissionError

    (tmp_path / "db").touch(0o600)
    monkeypatch.setattr(os, "fchmod", refuse)
    before = modes(tmp_path)
    make(tmp_path / "db")
    assert modes(tmp_path) == before


def test_a_file_that_may_not_be_written_ends_the_start_with_its_name(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> int:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(Final) as final:
        make(tmp_path / "db.sqlite3")
    assert final.value.status == 73
    assert final.value.problems[0].startswith(f"{tmp_path}/db.sqlite3 cannot be written by uid ")


def test_a_folder_that_does_not_exist_is_named(make: Make, tmp_path: Path) -> None:
    with pytest.raises(Final) as final:
        make(tmp_path / "none/db.sqlite3")
    assert final.value.status == 73
    assert final.value.problems[0].startswith(f"{tmp_path}/none, the folder of the database db.sqlite3, does not exist")


@pytest.mark.parametrize("error", [errno.EROFS, errno.EACCES, errno.ENOENT])
def test_a_file_outside_of_the_data_folder_is_told_where_to_be(
    error: int, make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> int:
        raise OSError(error, os.strerror(error))

    monkeypatch.setenv("DATA_DIR", "/srv/data")
    # A relative name, as in sqlite:///db.sqlite3, is one in the folder of the code.
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(Final) as final:
        make("db.sqlite3")
    assert final.value.status == 73
    assert final.value.problems == [
        f"the database {tmp_path}/db.sqlite3 cannot be written: {os.strerror(error)} (remedy: a file in the data "
        "folder: DATABASE_URL=sqlite:////srv/data/db.sqlite3, or in settings.py 'NAME': '/srv/data/db.sqlite3')"
    ]


def test_a_file_for_which_there_is_no_room_is_told_of(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(Final) as final:
        make(tmp_path / "db.sqlite3")
    assert (final.value.status, final.value.problems) == (
        73,
        [f"{tmp_path}/db.sqlite3 cannot be made: No space left on device"],
    )


def test_a_second_database_may_be_read_only(make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda file, mode: "places" in str(file) and mode == os.R_OK)
    (tmp_path / "places").touch()
    (tmp_path / "places").chmod(0o440)
    make(tmp_path / "db", tmp_path / "places")
    assert modes(tmp_path) == {"db": "0o660", "places": "0o440"}
    # The default database is written, and this one would be made.
    make(tmp_path / "places", tmp_path / "third")
    assert modes(tmp_path) == {"db": "0o660", "places": "0o660", "third": "0o660"}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """The data folder, of which nginx serves `media`."""
    (tmp_path / "media").mkdir()
    return tmp_path


@pytest.mark.parametrize("there", [(), ("",), ("", "-wal", "-shm")])
def test_a_link_that_leads_into_what_nginx_serves_ends_the_start_with_the_command_that_mends_it(
    make: Make, data: Path, there: tuple[str, ...]
) -> None:
    target, link = data / "media/it's.sqlite3", data / "db.sqlite3"
    link.symlink_to("media/it's.sqlite3")
    for end in there:
        Path(f"{target}{end}").write_text(end)
    with pytest.raises(Final) as final:
        make(link)
    assert final.value.status == 78
    (problem,) = final.value.problems
    assert problem.startswith(f"the database {link} is {shown(str(target))}, which nginx serves to everybody (rem")
    command = problem.partition(" IMAGE ")[2].removesuffix(")")
    subprocess.run(["sh", "-c", command], check=True)
    assert not link.is_symlink()
    assert [Path(f"{link}{end}").read_text() for end in there] == [*there]
    make(link)


def test_a_database_among_the_uploads_is_refused(make: Make, data: Path) -> None:
    with pytest.raises(Final) as final:
        make(data / "media/db.sqlite3")
    assert "move it out of" in final.value.problems[0]
    assert [*(data / "media").iterdir()] == []


def test_a_link_to_a_place_of_ones_own_is_followed(make: Make, data: Path) -> None:
    (data / "elsewhere").mkdir()
    (data / "db.sqlite3").symlink_to("elsewhere/db.sqlite3")
    make(data / "db.sqlite3")
    assert modes(data / "elsewhere") == {"db.sqlite3": "0o660"}


def test_a_second_name_is_warned_of(make: Make, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make(data / "db.sqlite3")
    assert capsys.readouterr().err == ""
    (data / "media/x").hardlink_to(data / "db.sqlite3")
    make(data / "db.sqlite3")
    assert capsys.readouterr().err.startswith(f"warning: {data}/db.sqlite3 has more than one name, nginx serves ")
