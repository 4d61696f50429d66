"""The container's limit of open files: too few end the start, and uWSGI asks for no more than there are."""

import resource

import pytest

from dockerable.application import start
from dockerable.container import checks
from dockerable.container.report import Report
from tests.support.docker import ROOT


@pytest.mark.parametrize(("hard", "status"), [(64, 78), (127, 78), (128, 0), (4096, 0), (resource.RLIM_INFINITY, 0)])
def test_too_few_end_the_start_with_the_name_and_the_remedy(
    hard: int, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (64, hard))
    report = Report()
    checks.check_descriptors(report)
    assert report.status == status
    for _, message in report.errors:
        assert message.startswith(f"nofile={hard} open files are too few")
        assert "ulimits: {nofile: 4096}" in message


def test_supervisord_starts_with_the_least() -> None:
    assert f"\nminfds = {checks.LEAST_DESCRIPTORS}\n" in (ROOT / "dockerable/supervisor-app.conf").read_text()


@pytest.mark.parametrize(
    ("soft", "hard", "wanted"),
    [(128, 128, 128), (256, 1024, 1024), (1024, 524288, 4096), (1 << 20, 1 << 20, 4096), (1024, -1, 4096)],
)
def test_uwsgi_takes_what_there_is_up_to_its_bound(
    soft: int, hard: int, wanted: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: (soft, hard))
    monkeypatch.setattr(resource, "setrlimit", lambda _, both: taken.append(both))
    start.bound_descriptors()
    assert taken == [(wanted, hard)]
    assert "max-fd" not in (ROOT / "dockerable/uwsgi.ini").read_text()
