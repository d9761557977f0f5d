"""One run's folder, open."""

import contextlib
import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from cnnjax.config import CheckpointPolicy, Config
from cnnjax.data.whiten import Whitening
from cnnjax.distributed import first, on_process_zero
from cnnjax.errors import UserError
from cnnjax.files import read_jsonl, set_aside
from cnnjax.network import Variables
from cnnjax.npz import read_arrays, write_arrays
from cnnjax.probes.probe import Probe
from cnnjax.sinks.group import Sinks
from cnnjax.sinks.sink import Sink
from cnnjax.training.checkpoint import Checkpoints, find_damage, kept_steps, read_checkpoint
from cnnjax.training.divergence import check_first_step, check_weights
from cnnjax.training.plateau import drops, tested
from cnnjax.training.record import (
    Record,
    final_metrics,
    read_result,
    write_result,
    write_whitening,
)
from cnnjax.training.run_dir import Identity, elsewhere, init_run_dir
from cnnjax.training.step import Measured, Metrics, State

LAYERS = "layers"  # the probe whose files lie in probes/ itself


@dataclasses.dataclass
class Run:
    """One run on disk, opened at its newest checkpoint.

    Nothing is written to its folder before it has taken a step.
    """

    config: Config
    identity: Identity
    out: Path
    step: int
    state: State | None  # None at step 0
    checkpoints: Checkpoints
    record: Record
    result: dict[str, float] | None  # the final metrics, when it is finished
    parameters: int
    whitening: Whitening | None = None

    def begin(self) -> None:
        """Take possession of the folder: a step was taken, or there is something to write down."""
        if not self.record.begun:
            on_process_zero(self._init_folder)
            self.record.begin()

    def _init_folder(self) -> None:
        init_run_dir(self.out, self.identity, self.parameters)
        if self.whitening is not None:
            write_whitening(self.out, self.whitening)

    def write(self, steps: range, metrics: Metrics, measured: Measured, probes: Sequence[Probe]) -> list[str]:
        """Write down what `steps`, counted from 1, gave: metrics [step], and arrays [step, ...] of probes.

        Returns what the probes remark.
        """
        by_name, remarks = {probe.name: probe for probe in probes}, []
        if steps.start == 1:
            check_first_step(self.out, metrics)
        self.begin()
        for index, step in enumerate(steps):
            line = {name: float(values[index]) for name, values in metrics.items()}
            for name, found in measured.items():
                arrays = arrays_of(jax.tree.map(lambda array, index=index: array[index], found))
                remarks += by_name[name].remarks(step - 1, str(self.out), arrays)
                if name != LAYERS:
                    line |= {f"{name}/{key}": float(one) for key, one in arrays.items() if np.ndim(one) == 0}
                    arrays = {key: one for key, one in arrays.items() if np.ndim(one) > 0}
                if arrays and by_name[name].keeps_arrays:
                    self._write_arrays(name, step - 1, arrays)
                    self.record.histograms(step, {f"{name}/{key}": one for key, one in arrays.items()})
            self.record.write(step, **line)
        return remarks

    def write_test(self, step: int, metrics: Mapping[str, float]) -> None:
        """Write down the test metrics after `step` steps."""
        self.begin()
        self.record.write(step, **metrics)

    @property
    def rated(self) -> Config:
        """Its config, with the peak learning rate that the tests so far leave."""
        config = self.config
        if config.schedule != "plateau":
            return config
        dropped = config.rate_drop ** drops(tested(self.record.lines), config.patience)
        return dataclasses.replace(config, learning_rate=config.learning_rate * dropped)

    def is_tested(self, step: int) -> bool:
        """Whether the record has the test metrics of `step`."""
        return self.record.value("test_loss", step) is not None

    def _write_arrays(self, name: str, step: int, arrays: Mapping[str, Any]) -> None:
        on_process_zero(lambda: write_arrays(self._probed(name, step), arrays))

    def _probed(self, name: str, step: int) -> Path:
        folder = self.out / "probes"
        return (folder if name == LAYERS else folder / name) / f"step_{step}.npz"

    def check_probes(self, probes: Sequence[Probe], say: Callable[[str], None]) -> None:
        """Set damaged files of measurements aside, and report which are missing."""
        probes = [probe for probe in probes if probe.keeps_arrays]
        due = {probe.name: [step for step in range(self.step) if probe.due(step)] for probe in probes}
        on_process_zero(lambda: self._check_probes(due, say))

    def _check_probes(self, due: Mapping[str, list[int]], say: Callable[[str], None]) -> None:
        for name, steps in due.items():
            folder = self._probed(name, 0).parent
            if not folder.exists():  # the run began without the probe, or it gives scalars alone
                continue
            missing = [step for step in steps if not self._probed(name, step).exists()]
            if missing:
                say(f"{folder} has no measurements of the steps {', '.join(map(str, missing))}")
            for path in folder.glob("step_*.npz"):
                try:
                    read_arrays(path)
                except UserError as error:
                    say(f"{error}: moved to {set_aside(path)}; go back before its step to measure anew")

    def save(self, step: int, state: State) -> None:
        """Start writing the checkpoint of `step`; returns once the arrays may be reused."""
        check_weights(state.variables, step, self.out)
        self.record.flush()
        note = {**self.identity, "metrics": self.record.digest}
        self.checkpoints.save(step, _parts(state), self.record.value("test_error", step), note)

    def finish(self, step: int) -> dict[str, float]:
        """Write the final metrics of a run that ended at `step`, and return them."""
        if self.result is None:
            self.result = found = final_metrics(self.record.lines, step)
            on_process_zero(lambda: write_result(self.out, self.identity, step, found))
        on_process_zero(self._restore_config_file)
        return self.result

    def _restore_config_file(self) -> None:
        if not (self.out / "config.json").exists():  # it was lost, or damaged and moved
            init_run_dir(self.out, self.identity, self.parameters)


@contextlib.contextmanager
def open_run_dir(
    config: Config,
    identity: Identity,
    out: Path,
    shapes: State,
    sinks: Sequence[Sink],
    keep: CheckpointPolicy,
    say: Callable[[str], None],
) -> Iterator[Run]:
    """Open the run in `out` at its newest intact checkpoint, a state of `shapes`.

    The previous step's gradients are zeros, as at step 0, if no probe needed them when it was saved.
    """
    with contextlib.closing(Checkpoints(out / "checkpoints", keep)) as checkpoints:
        step, state, written = 0, None, None
        if restored := checkpoints.restore(_parts(shapes), say):
            step, written = restored.step, restored.note.get("metrics")
            none = jax.tree.map(lambda shape: np.zeros(shape.shape, shape.dtype), shapes.gradients)
            state = as_state({"gradients": none, **restored.state})
            if step >= config.steps:
                say(f"{out}: is finished")
            else:
                say(f"{out}: goes on from step {step} of {config.steps}")
                if changes := elsewhere(out, identity):
                    say(f"{out}: was run elsewhere ({'; '.join(changes)}): its last bits may differ")
        elif on_process_zero(lambda: bool(read_jsonl(out / "metrics.jsonl"))):
            say(f"{out}: no whole checkpoint, starts again from step 0")
        outlets = Sinks(sinks if first() else (), out, identity["config"], step, say)
        with contextlib.closing(Record(out, step, outlets, written, say)) as record:
            result = None
            if step == config.steps:
                result = on_process_zero(lambda: read_result(out, identity, step, record, say))
            yield Run(config, identity, out, step, state, checkpoints, record, result, _size(shapes.params))


def arrays_of(measured: Any) -> Mapping[str, Any]:
    """What a probe measured, by name."""
    return measured.arrays() if hasattr(measured, "arrays") else measured


def _size(tree: Any) -> int:
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))


def _parts(state: State) -> dict[str, Any]:
    """The parts of a checkpoint: those of the state, with `carried` replaced by its entries."""
    own = {name: tree for name, tree in vars(state).items() if tree is not None and name != "carried"}
    return {**own, **state.carried}


def as_state(parts: Mapping[str, Any]) -> State:
    """The state that a checkpoint with these parts holds."""
    names = {field.name for field in dataclasses.fields(State)}
    carried = {name: tree for name, tree in parts.items() if name not in names}
    return State(**{name: parts[name] for name in names & set(parts)}, carried=carried)


def read_variables(out: Path, step: int | None = None, averaged: bool = False) -> Variables:
    """The variables in a run's checkpoint of `step`, by default the newest, as host arrays.

    Raises:
        UserError: there is no such checkpoint, or it is damaged, or no average of the parameters is in it.
    """
    folder = out / "checkpoints"
    steps = kept_steps(folder)
    there = ", ".join(map(str, steps))
    if not steps:
        raise UserError(f"{out} has no checkpoint")
    step = steps[-1] if step is None else step
    if step not in steps:
        raise UserError(f"{out} has no checkpoint of step {step}: there are {there}")
    if damage := find_damage(folder / str(step)):
        raise UserError(f"{folder / str(step)} is damaged ({damage}): take another step of {there}")
    state = as_state(read_checkpoint(folder, step))
    if averaged and state.average is None:
        raise UserError(f"{out} has no averaged parameters: it was trained without ema")
    return state.averaged_variables if averaged else state.variables
