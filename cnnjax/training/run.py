"""One run's folder, open."""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np

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

    def save(self, step: int, state: State) -> None:
        """Start writing the checkpoint of `step`; returns once the arrays may be reused."""
        self.checkpoints.save(step, _parts(state), self.test_error(step))

    def test_error(self, step: int) -> float | None:
        """The test error of `step`, if the record has it."""
        return self.record.value("test_error", step)


@contextlib.contextmanager
def opened(
    config: Config, out: Path, shapes: State, tensorboard: bool, keep: Keep, say: Callable[[str], None]
) -> Iterator[Run]:
    """The run in `out`, as of its newest whole checkpoint, a state of `shapes`.

    Gradients of the step before that no probe asked for are not there; then they are 0, as at step 0.
    """
    with contextlib.closing(Checkpoints(out / "checkpoints", keep)) as checkpoints:
        step, state = 0, None
        if restored := checkpoints.restore(_parts(shapes), say):
            step, saved = restored
            none = jax.tree.map(lambda shape: np.zeros(shape.shape, shape.dtype), shapes.gradients)
            state = State(**{"gradients": none, **saved})
            say(
                f"{out}: goes on from step {step} of {config.steps}"
                if step < config.steps
                else f"{out}: is finished"
            )
        elif (out / "metrics.jsonl").exists():
            say(f"{out}: no whole checkpoint, starts again from step 0")
        with contextlib.closing(Record(out, step, tensorboard)) as record:
            yield Run(config, out, step, state, checkpoints, record)


def _parts(state: State) -> dict[str, Any]:
    return {name: tree for name, tree in vars(state).items() if tree is not None}
