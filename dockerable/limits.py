"""What the container may use: CPUs and memory by its cgroup, version 1 or 2.

Both functions read the limits as the container sees them at its own `/sys/fs/cgroup`; a host without
limits gives the machine's own size. The `root` argument is for tests.
"""

import math
import os
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")

MIB = 1024 * 1024
# A start page's workers on SQLite: 60 MB for nginx, init and supervisor together, 45 MB a uWSGI worker.
BASE_MEMORY = 64 * MIB
WORKER_MEMORY = 48 * MIB
MOST_PROCESSES = 32


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def cpus(root: Path = CGROUP) -> int:
    """CPUs that the container may use, rounded up, at least 1 (quota and affinity)."""
    quota, period = "", ""
    if limit := _read(root / "cpu.max"):
        quota, period = limit.split()
    else:
        quota = _read(root / "cpu/cpu.cfs_quota_us")
        period = _read(root / "cpu/cpu.cfs_period_us")
    available = len(os.sched_getaffinity(0))
    if quota.isdigit() and period.isdigit():
        available = min(available, math.ceil(int(quota) / int(period)))
    return max(1, available)


def memory(root: Path = CGROUP) -> int | None:
    """The container's memory limit in bytes, None where there is none."""
    limit = _read(root / "memory.max") or _read(root / "memory/memory.limit_in_bytes")
    # Version 1 says "no limit" by a number near 2**63.
    return int(limit) if limit.isdigit() and int(limit) < 2**60 else None


def default_processes(root: Path = CGROUP) -> int:
    """uWSGI workers that fit: two a CPU, fewer where memory is short, between 1 and 32."""
    fit = 2 * cpus(root)
    if (limit := memory(root)) is not None:
        fit = min(fit, (limit - BASE_MEMORY) // WORKER_MEMORY)
    return max(1, min(fit, MOST_PROCESSES))
