"""One run's folder, open."""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from cnnjax.config import Config, Keep
from cnnjax.distributed import once
from cnnjax.training.checkpoint import Checkpoints
from cnnjax.training.record import Record, write_arrays
from cnnjax.training.step import Metrics, State


@dataclasses.dataclass
class Run:
    """One run on disk, open, as of its newest checkpoint."""

    config: Config
    out: Path
    step: int
    state: State | None  # None at step 0
    checkpoints: Checkpoints
    record: Record

    def write(self, step: int, metrics: Metrics) -> None:
        """Bring the metrics [step] of the steps after `step` to the record."""
        names, columns = metrics.keys(), zip(*metrics.values(), strict=True)
        for number, values in enumerate(columns, start=step + 1):
            self.record.write(number, **dict(zip(names, map(float, values), strict=True)))

    def write_probe(self, step: int, measured: Any) -> None:
        """Keep what a probe measured in the step after `step`."""
        once(lambda: write_arrays(self.out / "probes" / f"step_{step}.npz", measured.arrays()))

    def test_error(self, step: int) -> float | None:
        """The test error of `step`, if the record has it."""
        return self.record.value("test_error", step)


@contextlib.contextmanager
def opened(
    config: Config, out: Path, shapes: State, tensorboard: bool, keep: Keep, say: Callable[[str], None]
) -> Iterator[Run]:
    """The run in `out`, as of its newest whole checkpoint, a state of `shapes`."""
    with contextlib.closing(Checkpoints(out / "checkpoints", keep)) as checkpoints:
        step, state = 0, None
        if restored := checkpoints.restore(shapes, say):
            step, state = restored
            say(
                f"{out}: goes on from step {step} of {config.steps}"
                if step < config.steps
                else f"{out}: is finished"
            )
        elif (out / "metrics.jsonl").exists():
            say(f"{out}: no whole checkpoint, starts again from step 0")
        with contextlib.closing(Record(out, step, tensorboard)) as record:
            yield Run(config, out, step, state, checkpoints, record)
