"""Jobs side by side, each in a process of its own with its share of the cores.

The operations of a small network are too short to be divided: ResNet-56 of width 8 trains no faster on two
cores than on one, but two such networks train at once, each at the speed of one alone.
"""

import multiprocessing
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Sequence
from multiprocessing.connection import wait
from pathlib import Path

from tqdm import tqdm

from cnnjax.compilation import use_cache
from cnnjax.errors import Interrupted, UserError, one_line_errors
from cnnjax.machine import usable_cores
from cnnjax.training import progress
from cnnjax.training.stop import stop_on_signals


def huge_pages() -> None:
    """Let processes that begin from now on ask Linux for pages of 2 MiB.

    XLA takes its working memory anew for every step, and of pages of 4 KiB a fifth of the step of a small
    network goes into getting them. It does nothing where the C library is not glibc.
    """
    os.environ.setdefault("GLIBC_TUNABLES", "glibc.malloc.hugetlb=1")


def side_by_side(jobs: Sequence[Callable[[], object]], workers: int) -> None:
    """Do every job, in order, at most `workers` at a time, each on an equal share of the cores.

    Jobs are pickled. One that fails says why itself; the others are then asked to stop, as they are by Ctrl-C
    and SIGTERM.

    Raises:
        Interrupted: a signal came, and all jobs have stopped.
        SystemExit: a job failed; the exit code is its own.
        UserError: a job was killed from outside.
    """
    huge_pages()
    cores = usable_cores()
    share = len(cores) // workers
    context = multiprocessing.get_context("spawn")
    tqdm.set_lock(context.RLock())  # no two bars write at once
    waiting, running, failure, stopping = deque(jobs), {}, 0, False
    with stop_on_signals() as stop:
        try:
            while waiting or running:
                for place in range(workers):
                    if waiting and place not in running:
                        own = cores[place * share : (place + 1) * share]
                        arguments = waiting.popleft(), place, own, tqdm.get_lock(), sys.orig_argv
                        process = context.Process(target=_work, args=arguments)
                        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # inherited: Ctrl-C is ours
                        process.start()
                        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
                        running[place] = process
                wait([process.sentinel for process in running.values()], timeout=0.5)  # a signal may come
                for place, process in list(running.items()):
                    if process.exitcode is not None:
                        failure = failure or process.exitcode
                        del running[place]
                if (stop or failure) and not stopping:
                    stopping = True
                    waiting.clear()
                    for process in running.values():
                        process.terminate()
        finally:
            for process in running.values():  # only after a second Ctrl-C
                process.kill()
    if stop.number is not None:
        raise Interrupted("stopped; the same command goes on from there", stop.number)
    if failure < 0:
        raise UserError(
            f"a run was killed by signal {-failure}, for want of memory perhaps (--workers 1 needs less); "
            "the same command goes on from there"
        )
    if failure:
        raise SystemExit(failure)


def _work(job: Callable[[], object], place: int, cores: Sequence[int], lock, command: list[str]) -> None:
    threading.Thread(target=_end_with_the_parent, daemon=True).start()
    if hasattr(os, "sched_setaffinity"):  # XLA starts as many threads as there are cores
        os.sched_setaffinity(0, cores)
    sys.orig_argv[:] = command  # for the record
    tqdm.set_lock(lock)
    progress.LINE = place
    script = Path(sys.argv[0])
    with one_line_errors(script.parent.name if script.stem == "__main__" else script.stem):
        use_cache()
        job()


def _end_with_the_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent:
        parent.join()
    os.kill(os.getpid(), signal.SIGKILL)
