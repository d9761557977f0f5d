"""End a program that gets nothing done, so that its job is started again.

A process that is stuck, in a file system or a broken device, stops all others, which wait for it: to Slurm
such a job is alive, and it holds its machines until its time limit. Only those who know what a step is can
tell.
"""

import faulthandler
import os
import socket
import sys
import threading
from pathlib import Path

EXIT_CODE = 75
"""EX_TEMPFAIL of sysexits.h: to be tried again."""
GRACE = 5.0
"""Seconds for the other processes to write their stacks, and for a last sign of life."""
SLICES = 20
"""Patience is counted in parts: time for which the whole process was suspended counts as one of them."""
DEBUGGERS = {"bdb", "pdb", "debugpy", "pydevd"}

_moved = threading.Event()


def moved() -> None:
    """Say that something got done: a step, a batch of a test, a file."""
    _moved.set()


def watch(patience: float) -> None:
    """From now on, end this process with EXIT_CODE once nothing got done for `patience` seconds.

    It first writes the stacks of its threads to stderr. In a debugger it waits.
    """
    threading.Thread(target=_watch, args=(patience,), daemon=True, name="watchdog").start()


def _watch(patience: float) -> None:
    while True:
        _moved.clear()
        if any(_moved.wait(patience / SLICES) for _ in range(SLICES)) or _in_a_debugger():
            continue
        number = os.environ.get("CNNJAX_PROCESS") or os.environ.get("SLURM_PROCID") or "0"
        print(
            f"cnnjax: process {number} (pid {os.getpid()} on {socket.gethostname()}) got nothing done for "
            f"{patience:.0f} s; these are its stacks, and it ends with code {EXIT_CODE}:",
            file=sys.stderr,
            flush=True,
        )
        faulthandler.dump_traceback(sys.stderr, all_threads=True)
        if not _moved.wait(GRACE):
            os._exit(EXIT_CODE)


def _in_a_debugger() -> bool:
    """Whether a debugger holds a thread, or from outside the whole process."""
    for frame in sys._current_frames().values():
        while frame is not None:
            if frame.f_globals.get("__name__", "").partition(".")[0] in DEBUGGERS:
                return True
            frame = frame.f_back
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return False
    return "TracerPid:\t0\n" not in status
