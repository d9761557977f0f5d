"""Show progress: as a bar in a terminal, or as plain lines in a log file, one for every tenth."""

import contextlib
import dataclasses
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import numpy as np

from cnnjax.config import Config
from cnnjax.distributed import first
from cnnjax.terminal import LINES, REFRESH, Lines
from cnnjax.watchdog import moved

RECENT = 10  # lines that the loss and error shown are averaged over

T = TypeVar("T")


@dataclasses.dataclass
class Place:
    """Where this process shows its work; it may be one of several side by side."""

    lines: Lines = LINES
    """Of the terminal; a worker's are its parent's."""
    quiet: bool = False
    report: Callable[[int], object] = dataclasses.field(default=lambda amount: None)
    """Told of each bit of the work that is done, as steps times runs, to show how far the whole is."""


HERE = Place()


class Bar:
    """Progress of some work: a bar in a terminal, otherwise plain lines.

    Args:
        name: of the work.
        total: how much there is.
        unit: of what, or "%" to show no numbers.
        done: how much of it was done before.
    """

    def __init__(self, name: str, total: float, unit: str, done: float = 0):
        self._name, self._total, self._unit, self._done = name, total, unit, done
        self._under_way: tuple[float, float] | None = None  # when the first of it was done, all compiled
        self._drawn = time.monotonic()
        shown = _is_shown()
        self._live = shown and HERE.lines.live
        self._plain = shown and not self._live

    def start(self, note: str) -> None:
        """Show what happens first, such as compiling."""
        self._draw(self._amount(), note)
        self._write(self._amount(), note)

    def show(self, done: float, note: Callable[[], str] = lambda: "") -> None:
        """Show that `done` is done; `note` is called for further text whenever something is shown."""
        now, before = time.monotonic(), self._done
        self._done = done
        if done > before:
            moved()
        if self._under_way is None and done > before:
            self._under_way = now, done
        if self._live:
            if now - self._drawn > REFRESH:
                self._drawn = now
                self._draw(self._amount(), note(), self._left(now))
        elif done < self._total and 10 * done // self._total > 10 * before // self._total:
            self._write(self._amount(), note(), self._left(now))

    def close(self, note: str = "") -> None:
        """Leave the bar as it stands, with a last note."""
        self._draw(self._amount(), note)
        if self._live:
            HERE.lines.leave(self._key)
        elif self._done >= self._total:
            self._write(self._amount(), note)

    @property
    def _key(self) -> tuple[int, int]:
        """Its own, also among those of other processes."""
        return os.getpid(), id(self)

    def _draw(self, *parts: str) -> None:
        if self._live:
            part = self._done / self._total if self._total else 1.0
            HERE.lines.draw(self._key, self._name, part, ", ".join(filter(None, parts)))

    def _amount(self) -> str:
        return "" if self._unit == "%" else f"{self._done} of {self._total} {self._unit}s"

    def _left(self, now: float) -> str:
        then, done = self._under_way or (now, self._done)
        if done == self._done:
            return ""
        return f"{duration((now - then) * (self._total - self._done) / (self._done - done))} left"

    def _write(self, *parts: str) -> None:
        if self._plain:  # in one piece, so that lines of several processes stay whole
            sys.stderr.write(f"{self._name}: {', '.join(filter(None, parts))}\n")
            sys.stderr.flush()


def _is_shown() -> bool:
    return sys.stderr is not None and not HERE.quiet and first()


@contextlib.contextmanager
def patience(line: str, seconds: float = 10) -> Iterator[None]:
    """Say `line` on stderr if what is inside takes longer than that."""
    shown = _is_shown()
    timer = threading.Timer(seconds, lambda: shown and print(line, file=sys.stderr, flush=True))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def each(items: Sequence[T], name: str, unit: str) -> Iterator[T]:
    """Yield the items, and show how many are done."""
    if not items:
        return
    bar = Bar(name, len(items), unit)
    try:
        for done, item in enumerate(items, start=1):
            yield item
            bar.show(done)
            HERE.report(1)
    finally:
        bar.close()


def duration(seconds: float) -> str:
    """`40 s`, `12 min`, `3 h 20 min`."""
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"


class Progress:
    """Progress of runs that train together: loss and error of the last steps, last test error, images/s."""

    def __init__(self, model: str, configs: Sequence[Config], step: int):
        config = configs[0]
        self._runs, self._batch_size, self._step = len(configs), config.batch_size, step
        self._then: tuple[float, int] | None = None  # of the note before
        self._records: Sequence[list[dict[str, Any]]] = ()
        name = f"{model} seed {', '.join(str(config.seed) for config in configs)}"
        self._bar = Bar(name, config.steps, "step", step)
        if step < config.steps:
            self._bar.start("compiling")
        HERE.report(step * self._runs)

    def show(self, step: int, records: Sequence[list[dict[str, Any]]]) -> None:
        """Show that `step` steps are done; `records` are the lines of each run."""
        HERE.report((step - self._step) * self._runs)
        self._step, self._records = step, records
        self._then = self._then or (time.perf_counter(), step)
        self._bar.show(step, self._note)

    def _note(self) -> str:
        recent = [line for lines in self._records for line in lines[-RECENT:] if "train_loss" in line]
        tested = [error for lines in self._records if (error := _last_test_error(lines)) is not None]
        parts = []
        if recent:
            parts.append(f"loss {np.mean([line['train_loss'] for line in recent]):.3f}")
        if errors := [line["train_error"] for line in recent if "train_error" in line]:
            parts.append(f"error {np.mean(errors):.1%}")
        if tested:
            parts.append(f"test error {np.mean(tested):.1%}")
        now, (then, step) = time.perf_counter(), self._then or (0, self._step)
        if self._step > step:
            speed = (self._step - step) * self._runs * self._batch_size / max(1e-9, now - then)
            parts.append(f"{speed:.0f} images/s")
            self._then = now, self._step
        return ", ".join(parts)

    def say(self, line: str) -> None:
        """A line of its own, beside the bar."""
        if _is_shown():
            print(line, file=sys.stderr, flush=True)

    def close(self) -> None:
        """Leave the bar as it stands."""
        self._bar.close(self._note())


def _last_test_error(lines: list[dict[str, Any]]) -> float | None:
    return next((line["test_error"] for line in reversed(lines) if "test_error" in line), None)
