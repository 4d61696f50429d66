"""The data folder at start: the folders in it must be folders, whatever whoever broke in has left there."""

from pathlib import Path

import pytest

from dockerable.container import checks
from dockerable.container.report import Report

FOLDERS = ("media", "private", "tmp", "tmp/nginx", "tmp/nginx/body", "tmp/nginx/uwsgi")


def refused(data: Path) -> list[tuple[int, str]]:
    report = Report()
    checks.check_data({"DATA_DIR": str(data)}, report)
    assert report.warnings == []
    return report.errors


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    for name in FOLDERS:
        (folder / name).mkdir(parents=True)
    return folder


def replace(place: Path) -> None:
    """Move a folder out of the way, as whoever puts something else in its place does."""
    place.rename(place.with_name("moved"))


@pytest.mark.parametrize("name", FOLDERS)
@pytest.mark.parametrize("target", ["{data}", "..", "/etc/letsencrypt", "moved", "nowhere"])
def test_a_link_in_place_of_a_folder_is_refused_with_the_command_that_removes_it(
    data: Path, name: str, target: str
) -> None:
    place, target = data / name, target.format(data=data)
    replace(place)
    place.symlink_to(target)
    ((status, message),) = refused(data)
    assert status == 73
    assert message.startswith(f"{place} is a link to {target!r} (remedy, on the host: docker run --rm -u 0 -v VOLUME:")
    assert f" IMAGE rm {place}; mount what is elsewhere at {place})" in message
    assert "\n" not in message


def test_the_text_of_a_link_cannot_forge_a_line(data: Path) -> None:
    replace(data / "media")
    (data / "media").symlink_to("x\ncmd: error: run this")
    ((_, message),) = refused(data)
    assert "\n" not in message


def test_a_file_in_place_of_a_folder_is_refused(data: Path) -> None:
    replace(data / "media")
    (data / "media").touch()
    ((status, message),) = refused(data)
    assert status == 73
    assert message.startswith(f"{data}/media is no folder (remedy, on the host: ")


def test_folders_and_an_empty_volume_pass(data: Path, tmp_path: Path) -> None:
    assert refused(data) == []
    (tmp_path / "new").mkdir()
    assert refused(tmp_path / "new") == []


@pytest.mark.parametrize("end", ["", "/", "/."])
def test_the_data_folder_itself_may_be_a_link(data: Path, tmp_path: Path, end: str) -> None:
    link = tmp_path / "link"
    link.symlink_to(data)
    report = Report()
    checks.check_data({"DATA_DIR": f"{link}{end}"}, report)
    assert report.errors == []
