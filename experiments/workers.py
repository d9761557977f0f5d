"""Jobs side by side, in processes that each have their share of the cores.

The operations of a small network are too short to be divided: ResNet-56 of width 8 trains no faster on two
cores than on one, but two such networks can train together, each at the speed of one alone.
"""

import dataclasses
import functools
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from cnnjax.compilation import use_cache
from cnnjax.errors import Interrupted, UserError, one_line_errors
from cnnjax.machine import usable_cores
from cnnjax.training.progress import HERE, Bar
from cnnjax.training.stop import stop_on_signals

from .screen import Receiver, show_at


@dataclasses.dataclass(frozen=True)
class Job:
    """A part of an experiment's work."""

    act: Callable[[], object]
    nets: int = 1
    """How many networks it trains or measures."""
    steps: int = 1
    """How much it reports through `Place.report` in all, the same for each of its nets."""
    cost: float = 1.0
    """Of all of it, relative to other jobs."""


class Whole:
    """Progress of all jobs together: how many nets are done, and the time left for the rest."""

    def __init__(self, jobs: Sequence[Job]):
        self._jobs, self._note = jobs, ""
        self._bar = Bar("all", sum(job.cost for job in jobs), "%")

    def show(self, done: Sequence[float]) -> None:
        """Show how much of each job's steps is done."""
        parts = [min(1.0, steps / job.steps) for job, steps in zip(self._jobs, done, strict=True)]
        nets = sum(int(part * job.nets + 1e-9) for job, part in zip(self._jobs, parts, strict=True))
        self._note = f"{nets} of {sum(job.nets for job in self._jobs)} nets done"
        cost = sum(part * job.cost for job, part in zip(self._jobs, parts, strict=True))
        self._bar.show(cost, lambda: self._note)

    def close(self) -> None:
        """Leave the bar as it stands."""
        self._bar.close(self._note)


def one_by_one(jobs: Sequence[Job]) -> None:
    """Do every job in this process, in order."""
    done = [0.0] * len(jobs)
    whole = Whole(jobs)

    def report(number: int, amount: int) -> None:
        done[number] += amount
        whole.show(done)

    try:
        for number, job in enumerate(jobs):
            HERE.report = functools.partial(report, number)
            job.act()
            report(number, job.steps)  # some of it may have been done before
    finally:
        HERE.report = lambda amount: None
        whole.close()


def huge_pages() -> None:
    """Let processes that start from now on ask Linux for pages of 2 MiB.

    XLA allocates its working memory for every step; with pages of 4 KiB that takes a fifth of a small
    network's step. Has no effect if the C library is not glibc.
    """
    os.environ.setdefault("GLIBC_TUNABLES", "glibc.malloc.hugetlb=1")


def side_by_side(jobs: Sequence[Job], workers: int) -> None:
    """Do every job, in order, by so many processes, each with an equal share of the cores.

    A process takes one job after the other: what the first has imported and compiled serves the next. Jobs
    are pickled. One that fails reports the reason itself; the others are then asked to stop, as by Ctrl-C and
    SIGTERM.

    Raises:
        Interrupted: a signal came, and all jobs have stopped.
        SystemExit: a job failed; the exit code is its own.
        UserError: a job was killed from outside.
    """
    huge_pages()
    cores = usable_cores()
    share = len(cores) // workers
    context = multiprocessing.get_context("spawn")
    taken = context.Value("i", 0)
    done = context.Array("d", len(jobs), lock=False)  # each written by one worker alone
    running, screens, failure, stopping = [], [], 0, False
    whole = Whole(jobs)
    with stop_on_signals() as stop:
        stop.listen()
        try:
            for place in range(min(workers, len(jobs))):
                own = cores[place * share : (place + 1) * share]
                screen = context.Pipe(duplex=False) if HERE.lines.live else None
                arguments = jobs, taken, done, own, screen and screen[1], sys.orig_argv
                process = context.Process(target=_work, args=arguments)
                signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # inherited: Ctrl-C is ours
                process.start()
                signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
                running.append(process)
                if screen:
                    screen[1].close()  # it is the worker's, and ends with it
                    screens.append(Receiver(screen[0]))
            while running:
                ends = [process.sentinel for process in running]
                wait([*ends, *(screen.connection for screen in screens)], timeout=0.5)  # a signal may come
                for process in list(running):
                    if process.exitcode is not None:
                        failure = failure or process.exitcode
                        running.remove(process)
                for screen in list(screens):
                    if not screen.receive():
                        screen.close()
                        screens.remove(screen)
                whole.show(list(done))
                if (stop or failure) and not stopping:
                    stopping, taken.value = True, len(jobs)
                    for process in running:
                        process.terminate()
        finally:
            for process in running:  # only after a second Ctrl-C
                process.kill()
            for screen in screens:
                screen.close()
            whole.close()
    if stop.number is not None:
        raise Interrupted("stopped; the same command goes on from there", stop.number)
    if failure < 0:
        raise UserError(
            f"a run was killed by signal {-failure}, for want of memory perhaps (--workers 1 needs less); "
            "the same command goes on from there"
        )
    if failure:
        raise SystemExit(failure)


def _work(
    jobs: Sequence[Job],
    taken: Any,
    done: Any,
    cores: Sequence[int],
    screen: Connection | None,
    command: list[str],
) -> None:
    threading.Thread(target=_end_with_the_parent, daemon=True).start()
    if hasattr(os, "sched_setaffinity"):  # XLA starts as many threads as there are cores
        os.sched_setaffinity(0, cores)
    sys.orig_argv[:] = command  # for the record
    if screen is not None:
        show_at(screen)

    def report(number: int, amount: int) -> None:
        done[number] += amount

    script = Path(sys.argv[0])
    with one_line_errors(script.parent.name if script.stem == "__main__" else script.stem):
        use_cache()
        while (number := _next(taken)) < len(jobs):
            HERE.report = functools.partial(report, number)
            jobs[number].act()
            done[number] = jobs[number].steps  # some was done before


def _next(taken: Any) -> int:
    """The number of the next job that nobody has taken, or one beyond the last."""
    with taken.get_lock():
        taken.value += 1
        return taken.value - 1


def _end_with_the_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent:
        parent.join()
    os.kill(os.getpid(), signal.SIGKILL)
