"""What the container may use: CPUs and memory by its cgroup, version 1 or 2.

The functions read the container's limits as it sees them at its own `/sys/fs/cgroup`; a host without
limits gives the machine's own size. The `root` argument is for tests.
"""

import math
import os
import re
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")

MIB = 1024 * 1024
# All but the workers: 43 MB for nginx, init, supervisor and uWSGI's master, 50 MB for a run of certbot, and some for
# files on their way to the disk: without it 50 slow downloads beside workers at their bound ended in a kill.
BASE_MEMORY = 128 * MIB
# Of a worker's resident memory, what is in files and thus there once for all of them.
SHARED_MEMORY = 24 * MIB
# The least resident memory at which a worker is replaced; one that serves the start page has 51 MB.
LEAST_WORKER_MEMORY = 80 * MIB
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
        fit = min(fit, (limit - BASE_MEMORY) // (LEAST_WORKER_MEMORY - SHARED_MEMORY))
    return max(1, min(fit, MOST_PROCESSES))


def worker_memory(processes: int, root: Path = CGROUP) -> int:
    """Resident memory in bytes that each of so many workers may have, so that all stay within the limit."""
    limit = memory(root) or os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return max(LEAST_WORKER_MEMORY, (limit - BASE_MEMORY) // processes + SHARED_MEMORY)


def fits(processes: int, each: int, root: Path = CGROUP) -> bool:
    """Whether so many workers of `each` bytes of resident memory stay within the limit."""
    limit = memory(root)
    return limit is None or BASE_MEMORY + processes * (each - SHARED_MEMORY) <= max(limit, BASE_MEMORY)


def oom_kills(root: Path = CGROUP) -> int | None:
    """How many processes of the container the kernel has killed for want of memory; None where it does not say."""
    events = _read(root / "memory.events") or _read(root / "memory/memory.oom_control")
    found = re.search(r"^oom_kill (\d+)$", events, re.MULTILINE)
    return int(found[1]) if found else None
