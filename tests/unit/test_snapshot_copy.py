"""The copy of a mounted folder that somebody changes meanwhile; no container."""

import os
import shutil
from pathlib import Path

import pytest

from dockerable.container import snapshot


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
