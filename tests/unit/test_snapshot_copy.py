"""Which of the mounted folders and files a snapshot copies, also if they change meanwhile."""

import os
import shutil
from pathlib import Path

import pytest

from dockerable.container import snapshot


def test_mounts_are_those_below_the_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshot, "APP", tmp_path)
    (tmp_path / "a b/c").mkdir(parents=True)
    (tmp_path / "file.py").touch()
    escaped = str(tmp_path).replace(" ", "\\040")
    places = [f"{escaped}/a\\040b/c", "/proc", f"{escaped}/file.py", f"{escaped}/a\\040b", f"{escaped}x", escaped]
    table = "".join(f"36 35 98:0 / {place} rw,noatime - ext4 /dev/root rw\n" for place in places)
    assert snapshot.mounts(table) == [tmp_path, tmp_path / "a b", tmp_path / "a b/c"]


def test_only_folders_with_modules_and_what_lies_beside_are_copied(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    for name in ("settings.py", "secrets.json", "letsencrypt/live/key.pem", "app/views.py", ".git/hook.py", "lib.so"):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_text(name)
    (source / "large.bin").write_bytes(b"x" * (snapshot.MOST_DATA + 1))
    assert snapshot.Copy().folder(source, target)
    links = {place.name for place in target.rglob("*") if place.is_symlink()}
    assert links == {"letsencrypt", ".git", "large.bin", "lib.so"}
    assert (target / "app/views.py").read_text() == "app/views.py"
    assert (target / "letsencrypt/live/key.pem").read_text() == "letsencrypt/live/key.pem"
    assert not snapshot.Copy().folder(source / "letsencrypt", tmp_path / "nothing")
    assert not (tmp_path / "nothing").exists()


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """An environment's folder with certbot's files in it."""
    source = tmp_path / "source"
    (source / "letsencrypt/renewal").mkdir(parents=True)
    (source / "settings.py").write_text("VERSION = 1\n")
    for name in ("letsencrypt/.certbot.lock", "letsencrypt/attempts.json", "letsencrypt/renewal/a.conf.new"):
        (source / name).write_text(name)
    return source


@pytest.mark.parametrize("gone", ["letsencrypt/.certbot.lock", "letsencrypt/renewal/a.conf.new", "letsencrypt/renewal"])
def test_what_certbot_removes_while_it_is_copied_does_not_spoil_the_copy(
    source: Path, tmp_path: Path, gone: str
) -> None:
    class Meanwhile(snapshot.Copy):
        """Removes the file or folder once it has been listed."""

        def entries_of(self, folder: Path) -> "list[os.DirEntry[str]]":
            entries = super().entries_of(folder)
            if folder == (source / gone).parent:
                shutil.rmtree(source / gone) if (source / gone).is_dir() else (source / gone).unlink()
            return entries

    assert Meanwhile().folder(source, tmp_path / "target")
    assert not (source / gone).exists()
    assert (tmp_path / "target/settings.py").read_text() == "VERSION = 1\n"
    assert not (tmp_path / "target" / gone).exists()
    assert (tmp_path / "target/letsencrypt/attempts.json").exists()
