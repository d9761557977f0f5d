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
from cnnjax.errors import UserError
from cnnjax.files import read_jsonl, set_aside
from cnnjax.training.checkpoint import Checkpoints
from cnnjax.training.claim import elsewhere, write_claim
from cnnjax.training.record import (
    Record,
    final_metrics,
    read_arrays,
    read_result,
    write_arrays,
    write_result,
)
from cnnjax.training.step import Metrics, State


@dataclasses.dataclass
class Run:
    """One run on disk, open, as of its newest checkpoint.

    Nothing is written to its folder before it has taken a step.
    """

    config: Config
    digest: str  # of the data
    out: Path
    step: int
    state: State | None  # None at step 0
    checkpoints: Checkpoints
    record: Record
    result: dict[str, float] | None  # the final metrics, when it is finished

    def begin(self) -> None:
        """A step was taken, or there is something to write down: the folder is this run's."""
        if not self.record.begun:
            once(lambda: write_claim(self.out, self.config, self.digest))
            self.record.begin()

    def write(self, step: int, metrics: Metrics) -> None:
        """Bring the metrics [step] of the steps after `step` to the record."""
        names, columns = metrics.keys(), zip(*metrics.values(), strict=True)
        for number, values in enumerate(columns, start=step + 1):
            self.record.write(number, **dict(zip(names, map(float, values), strict=True)))

    def write_probe(self, step: int, measured: Any) -> None:
        """Keep what a probe measured in the step after `step`."""
        once(lambda: write_arrays(self._probed(step), measured.arrays()))

    def _probed(self, step: int) -> Path:
        return self.out / "probes" / f"step_{step}.npz"

    def check_probes(self, due: Callable[[int], bool], say: Callable[[str], None]) -> None:
        """Set damaged files of measurements aside, and say which are not there."""
        once(lambda: self._check_probes([step for step in range(self.step) if due(step)], say))

    def _check_probes(self, steps: list[int], say: Callable[[str], None]) -> None:
        folder = self.out / "probes"
        if not folder.exists():  # the run began without a probe
            return
        missing = [step for step in steps if not self._probed(step).exists()]
        if missing:
            say(f"{folder} has no measurements of the steps {', '.join(map(str, missing))}")
        for path in folder.glob("step_*.npz"):
            try:
                read_arrays(path)
            except UserError as error:
                say(f"{error}: moved to {set_aside(path)}; go back before its step to measure anew")

    def save(self, step: int, state: State) -> None:
        """Start writing the checkpoint of `step`; returns once the arrays may be reused."""
        self.record.flush()
        note = {"config": self.config.to_json(), "data": self.digest, "metrics": self.record.digest}
        self.checkpoints.save(step, _parts(state), self.test_error(step), note)

    def test_error(self, step: int) -> float | None:
        """The test error of `step`, if the record has it."""
        return self.record.value("test_error", step)

    def finish(self) -> dict[str, float]:
        """Write the final metrics, and return them."""
        if self.result is None:
            self.result = final_metrics(self.record.lines, self.config.steps)
            once(lambda: write_result(self.out, self.config, self.digest, self.result or {}))
        once(self._restore_claim)
        return self.result

    def _restore_claim(self) -> None:
        if not (self.out / "config.json").exists():  # it was lost, or damaged and moved
            write_claim(self.out, self.config, self.digest)


@contextlib.contextmanager
def opened(
    config: Config,
    digest: str,
    out: Path,
    shapes: State,
    tensorboard: bool,
    keep: Keep,
    say: Callable[[str], None],
) -> Iterator[Run]:
    """The run in `out`, as of its newest whole checkpoint, a state of `shapes`; `digest` is of its data.

    Gradients of the step before that no probe asked for are not there; then they are 0, as at step 0.
    """
    with contextlib.closing(Checkpoints(out / "checkpoints", keep)) as checkpoints:
        step, state, written = 0, None, None
        if restored := checkpoints.restore(_parts(shapes), say):
            step, written = restored.step, restored.note.get("metrics")
            none = jax.tree.map(lambda shape: np.zeros(shape.shape, shape.dtype), shapes.gradients)
            state = State(**{"gradients": none, **restored.state})
            if step >= config.steps:
                say(f"{out}: is finished")
            else:
                say(f"{out}: goes on from step {step} of {config.steps}")
                if changes := elsewhere(out, config):
                    say(f"{out}: was run elsewhere ({'; '.join(changes)}): its last bits may differ")
        elif once(lambda: bool(read_jsonl(out / "metrics.jsonl"))):
            say(f"{out}: no whole checkpoint, starts again from step 0")
        with contextlib.closing(Record(out, step, tensorboard, written, say)) as record:
            result = None
            if step == config.steps:
                result = once(lambda: read_result(out, config, digest, record, say))
            yield Run(config, digest, out, step, state, checkpoints, record, result)


def _parts(state: State) -> dict[str, Any]:
    return {name: tree for name, tree in vars(state).items() if tree is not None}
