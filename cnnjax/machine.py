"""The machine that a process runs on."""

import os
from pathlib import Path


def usable_cores() -> list[int]:
    """Numbers of the cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def free_memory() -> int | None:
    """Bytes of the host's memory that a process may still take; None if Linux does not report it."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        sizes = {
            name: 1024 * int(size.split()[0]) for name, _, size in (line.partition(":") for line in lines)
        }
        free = sizes["MemAvailable"] + sizes["SwapFree"]
    except (OSError, KeyError, ValueError, IndexError):
        return None
    group = Path("/sys/fs/cgroup")
    try:  # of a container
        most, taken = (int((group / f"memory.{name}").read_text()) for name in ("max", "current"))
    except (OSError, ValueError):  # there is no limit, or no file
        return free
    return min(free, max(0, most - taken))
