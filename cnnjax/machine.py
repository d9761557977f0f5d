"""The machine that a process runs on."""

import ctypes
import os
from pathlib import Path

# Options of glibc's mallopt, and what they are when nobody sets them.
ARENA_MAX, MMAP_MAX, TRIM_THRESHOLD = -8, -4, -1
DEFAULTS = {MMAP_MAX: 65_536, TRIM_THRESHOLD: 128 * 1024}


def usable_cores() -> list[int]:
    """Numbers of the cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def keep_memory() -> None:
    """Let this process keep the memory that it frees; to be called before anything is computed.

    XLA takes a step's working memory anew for each step, and glibc returns pieces of that size to Linux,
    which clears their pages again: a fifth of the time of a small network's step on a CPU. Kept in one heap
    for all threads, memory is cleared once; the process may then hold up to twice what a step needs. Has no
    effect where the C library is not glibc, or where GLIBC_TUNABLES says how it is to keep memory: with large
    pages as well, steps take unsteady times.
    """
    if "malloc" in os.environ.get("GLIBC_TUNABLES", ""):
        return
    _mallopt({ARENA_MAX: 1, MMAP_MAX: 0, TRIM_THRESHOLD: 2**31 - 1})


def return_memory() -> None:
    """Take back `keep_memory`, for a step that needs most of what there is."""
    _mallopt(DEFAULTS)


def _mallopt(options: dict[int, int]) -> None:
    library = ctypes.CDLL(None)
    if hasattr(library, "mallopt"):
        for option, value in options.items():
            library.mallopt(option, value)


def free_memory() -> int | None:
    """Bytes of the host's memory that a process may still take; None if Linux does not report it."""
    library = ctypes.CDLL(None)
    if hasattr(library, "malloc_trim"):
        library.malloc_trim(0)  # what is kept, but free, counts
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
