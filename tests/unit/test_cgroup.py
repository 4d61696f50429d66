"""What the container makes of its cgroup, version 1 and 2: CPUs, memory, workers that fit, kills."""

from collections.abc import Callable
from pathlib import Path

import pytest

from dockerable.container import checks, limits, variables
from dockerable.container.report import Report

# cgroup version 2 keeps a group's limits in one folder; version 1 has one folder a controller.
V2 = {"cpu.max": "{quota} 100000\n", "memory.max": "{memory}\n"}
V1 = {
    "cpu/cpu.cfs_quota_us": "{quota}\n",
    "cpu/cpu.cfs_period_us": "100000\n",
    "memory/memory.limit_in_bytes": "{memory}\n",
}
MIB = 1024 * 1024


@pytest.fixture
def cgroup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Writes a tree of limits, on a machine with eight CPUs."""
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(8)))

    def write(files: dict[str, str], quota: int, memory: int) -> Path:
        unlimited = ("max", "max") if files is V2 else (-1, 9223372036854771712)
        for name, content in files.items():
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_text(content.format(quota=quota or unlimited[0], memory=memory or unlimited[1]))
        return tmp_path

    return write


@pytest.mark.parametrize("files", [V1, V2], ids=["v1", "v2"])
@pytest.mark.parametrize(
    ("quota", "memory", "cpus", "processes"),
    [
        (0, 0, 8, 16),
        (200_000, 0, 2, 4),
        (150_000, 0, 2, 4),
        (10_000, 0, 1, 2),
        (6_400_000, 0, 8, 16),
        (0, 128 * MIB, 8, 1),
        (0, 32 * MIB, 8, 1),
        (0, 512 * MIB, 8, 6),
        (200_000, 512 * MIB, 2, 4),
    ],
)
def test_the_cgroup_decides_how_many_workers_fit(
    cgroup: Callable[..., Path], files: dict[str, str], quota: int, memory: int, cpus: int, processes: int
) -> None:
    root = cgroup(files, quota, memory)
    assert limits.cpus(root) == cpus
    assert limits.memory(root) == (memory or None)
    assert limits.default_processes(root) == processes


def test_without_a_cgroup_the_machine_decides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(64)))
    assert limits.cpus(tmp_path) == 64
    assert limits.memory(tmp_path) is None
    assert limits.default_processes(tmp_path) == 32


def test_a_cpu_set_counts_like_a_quota(cgroup: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    root = cgroup(V2, 400_000, 0)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {3})
    assert limits.cpus(root) == 1


# Files of version 1 and 2 as they are, shortened.
OOM = {
    "memory.events": "low 0\nhigh 0\nmax 12\noom 3\noom_kill {}\noom_group_kill 0\n",
    "memory/memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill {}\n",
}


@pytest.mark.parametrize("file", OOM)
def test_kills_are_counted(tmp_path: Path, file: str) -> None:
    assert limits.oom_kills(tmp_path) is None
    place = tmp_path / file
    place.parent.mkdir(exist_ok=True)
    for kills in (0, 1, 23):
        place.write_text(OOM[file].format(kills))
        assert limits.oom_kills(tmp_path) == kills
    # Linux before 4.13 does not count.
    place.write_text("oom_kill_disable 0\nunder_oom 0\n")
    assert limits.oom_kills(tmp_path) is None


@pytest.mark.parametrize("megabytes", [32, 128, 192, 256, 384, 512, 1024, 8192])
def test_the_default_workers_fit_into_the_limit(tmp_path: Path, megabytes: int) -> None:
    (tmp_path / "memory.max").write_text(str(megabytes * MIB))
    processes = limits.default_processes(tmp_path)
    each = limits.worker_memory(processes, tmp_path)
    assert each >= 80 * MIB
    if megabytes >= 192:
        assert limits.fits(processes, each, tmp_path)
        assert not limits.fits(processes, 2 * each, tmp_path)
        assert not limits.fits(64 * processes, each, tmp_path)


def test_the_bound_is_derived_unless_set_and_too_much_is_warned_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "memory.max").write_text(str(512 * MIB))
    monkeypatch.setattr(limits.worker_memory, "__defaults__", (tmp_path,))
    monkeypatch.setattr(limits.memory, "__defaults__", (tmp_path,))
    monkeypatch.setattr(limits.fits, "__defaults__", (tmp_path,))

    def bound(processes: str, each: str) -> tuple[str, list[str]]:
        report = Report()
        environ = {"NGINX_SERVER_NAME": "a.test", "UWSGI_PROCESSES": processes, "UWSGI_RELOAD_ON_RSS": each}
        variables.check(environ, report)
        checks.fit_machine(environ, report)
        return report.values["UWSGI_RELOAD_ON_RSS"], report.warnings

    assert bound("4", "") == ("120", [])
    assert bound("4", "100") == ("100", [])
    assert bound("4", "0") == ("0", [])
    each, (warning,) = bound("16", "")
    assert each == "80"
    assert "UWSGI_PROCESSES=16 " in warning
    assert "limit of 512 MB" in warning
