"""The container's limits of CPU and memory, from its cgroup (version 1 or 2), and the workers that fit into them.

`root` is where the cgroup is mounted; only tests set it. Without limits the machine's own size counts.
"""

import math
import os
import re
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")

MIB = 1024 * 1024
# Bytes for everything but the workers: 43 MB for nginx, init, supervisord and uWSGI's master, 50 MB for a run of
# certbot, the rest for file pages in memory: without it 50 slow downloads beside full workers ended in a kill.
BASE_MEMORY = 128 * MIB
# Bytes of a worker's resident memory that are mapped files, which all workers share.
SHARED_MEMORY = 24 * MIB
# The least bound in bytes at which a worker is replaced; one that serves the start page has 51 MB resident.
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
    """The container's memory limit in bytes; None if it has none."""
    limit = _read(root / "memory.max") or _read(root / "memory/memory.limit_in_bytes")
    # Version 1 says "no limit" by a number near 2**63.
    return int(limit) if limit.isdigit() and int(limit) < 2**60 else None


def default_processes(root: Path = CGROUP) -> int:
    """The default number of uWSGI workers: two for each CPU, fewer if memory is short, between 1 and 32."""
    fit = 2 * cpus(root)
    if (limit := memory(root)) is not None:
        fit = min(fit, (limit - BASE_MEMORY) // (LEAST_WORKER_MEMORY - SHARED_MEMORY))
    return max(1, min(fit, MOST_PROCESSES))


def worker_memory(processes: int, root: Path = CGROUP) -> int:
    """The resident memory in bytes that each of `processes` workers may have so that all stay within the limit."""
    limit = memory(root) or os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return max(LEAST_WORKER_MEMORY, (limit - BASE_MEMORY) // processes + SHARED_MEMORY)


def fits(processes: int, each: int, root: Path = CGROUP) -> bool:
    """Whether `processes` workers with `each` bytes of resident memory stay within the limit."""
    limit = memory(root)
    return limit is None or BASE_MEMORY + processes * (each - SHARED_MEMORY) <= max(limit, BASE_MEMORY)


def oom_kills(root: Path = CGROUP) -> int | None:
    """How many of the container's processes the kernel killed for want of memory; None if it does not count them."""
    events = _read(root / "memory.events") or _read(root / "memory/memory.oom_control")
    found = re.search(r"^oom_kill (\d+)$", events, re.MULTILINE)
    return int(found[1]) if found else None
