"""Several runs of one program: their folders, their devices, and which of them train together."""

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, get_args

import jax
from jax.sharding import Mesh

from cnnjax.config import KEEP, OUR_SCHEDULES, CheckpointPolicy, Config, MultiRunMode, Shard, differences
from cnnjax.distributed import check_joined
from cnnjax.errors import UserError
from cnnjax.mesh import check_divisible, check_shard, for_fewer_runs, make_mesh
from cnnjax.sinks.sink import Sink
from cnnjax.training.callbacks import Callback
from cnnjax.training.lock import locked
from cnnjax.training.loop import Training, largest_divisor
from cnnjax.training.program import Program
from cnnjax.training.rewind import check_rewind, rewind
from cnnjax.training.run import Run, open_run_dir
from cnnjax.training.run_dir import check_run_dir
from cnnjax.training.step import State
from cnnjax.training.stop import Stop, stop_on_signals
from cnnjax.training.task import Task


@dataclasses.dataclass(frozen=True)
class Result:
    """A finished run.

    Attributes:
        config: what was run.
        out: its folder, with metrics.jsonl and result.json.
        metrics: final values: `train_loss` and `train_error` averaged over the last tenth of the steps,
            `test_loss` and `test_error` of the last weights. Losses in nats, errors as fractions.
        variables: the last parameters and the network's other collections, for `model.apply`.
        averaged: the same with the averaged parameters, if the config has an `ema`.
    """

    config: Config
    out: Path
    metrics: dict[str, float]
    variables: dict[str, Any] = dataclasses.field(repr=False)
    averaged: dict[str, Any] | None = dataclasses.field(default=None, repr=False)
    what: str = ""
    """Model and data in words, for its `repr`."""

    def __repr__(self) -> str:
        weights = sum(leaf.size for leaf in jax.tree.leaves(self.variables.get("params", {})))
        values = ", ".join(f"{name} {value:.4g}" for name, value in self.metrics.items())
        return (
            f"Result of {self.what}, {self.config.steps} steps, in {self.out}\n"
            f"  {values}\n"
            f"  .config, .metrics and .variables, {weights:,} weights in {len(self.variables)} collections"
        )


@dataclasses.dataclass(frozen=True)
class Session:
    """How runs are trained and recorded. Changes no numbers; `cnnjax.train` describes the fields."""

    mesh: Mesh | None = None
    shard: Shard = "replicated"
    sinks: Sequence[Sink] = ()
    callbacks: Sequence[Callback] = ()
    steps_per_dispatch: int | None = None
    keep: CheckpointPolicy = KEEP
    resume: int | None = None
    say: Callable[[str], None] = print


def train_runs(
    task: Task, configs: Sequence[Config], outs: Sequence[Path], how: MultiRunMode, session: Session
) -> list[Result]:
    """Train each config in its own folder, all with one program; see `cnnjax.train_many`."""
    check_joined()
    _check_alike(configs, outs, how)
    at_once = 1 if how == "sequential" else len(configs)
    batch_size = configs[0].batch_size
    mesh_for = _mesh_for(how, batch_size, session.mesh)
    check_divisible(batch_size, session.mesh or mesh_for(at_once))
    check_shard(session.shard, mesh_for(at_once))
    say = session.say
    for note in task.notes:
        say(note)
    identities = [task.identity_of(config) for config in configs]
    with contextlib.ExitStack() as held, stop_on_signals() as stop:
        for out in outs:
            held.enter_context(locked(out))
        for identity, out in zip(identities, outs, strict=True):
            check_run_dir(out, identity, say)
        program = functools.cache(lambda mesh: Program(task, mesh, session.shard))
        state_shapes = program(mesh_for(at_once)).state_shapes
        if session.resume is not None:
            check_rewind(outs, session.resume)
            for out in outs:
                rewind(out, session.resume, say)
        results: list[Result] = []
        for first in range(0, len(configs), at_once):
            some = slice(first, first + at_once)
            with contextlib.ExitStack() as folders:
                runs = [
                    folders.enter_context(
                        open_run_dir(config, identity, out, state_shapes, session.sinks, session.keep, say)
                    )
                    for config, identity, out in zip(configs[some], identities[some], outs[some], strict=True)
                ]
                for run in runs:
                    run.whitening = task.whitening
                    run.check_probes(task.probes, say)
                results += _train_together(task, runs, lambda group: program(mesh_for(group)), session, stop)
    by_out = {result.out: result for result in results}
    return [by_out[out] for out in outs]


def _train_together(
    task: Task, runs: Sequence[Run], program_for: Callable[[int], Program], session: Session, stop: Stop
) -> list[Result]:
    """Train runs to their end; those at the same step train together."""
    results = [_result(run, run.state) for run in runs if run.result is not None]
    left = [run for run in runs if run.result is None]
    for step in sorted({run.step for run in left}):
        group = [run for run in left if run.step == step]
        program = program_for(len(group))
        at_most = session.steps_per_dispatch or default_steps_per_dispatch()
        training = Training(task, program, group, session.callbacks, at_most, stop)
        states = program.get(training.to_the_end())
        results += [_result(run, state) for run, state in zip(group, states, strict=True)]
    return results


def _result(run: Run, state: State | None) -> Result:
    assert state is not None  # a finished run has one
    averaged = None if state.average is None else jax.device_put(state.averaged_variables)
    held = run.identity["config"]
    return Result(
        config=run.config,
        out=run.out,
        metrics=run.finish(int(state.step)),
        variables=jax.device_put(state.variables),
        averaged=averaged,
        what=f"{held['model']} on {held['data']}",
    )


def program_key(config: Config) -> dict[str, Any]:
    """What runs of one program share, as JSON: all except seeds, learning rate and weight decay.

    Held-out examples are drawn by the seed, so with `validation` it must be the same; and optax's schedules
    are made for one learning rate.
    """
    free = {"weight_decay", "data_seed"}
    free |= set() if config.validation else {"seed"}
    free |= {"learning_rate"} if config.schedule in OUR_SCHEDULES else set()
    return {name: value for name, value in config.to_json().items() if name not in free}


def _check_alike(configs: Sequence[Config], outs: Sequence[Path], how: str) -> None:
    if how not in get_args(MultiRunMode):
        raise UserError(f"how={how!r}: must be one of {', '.join(get_args(MultiRunMode))}")
    if not 0 < len(configs) == len(outs):
        raise UserError(f"{len(configs)} configs and {len(outs)} folders: there must be one for each")
    for config in configs[1:]:
        if changes := differences(program_key(configs[0]), program_key(config)):
            raise UserError(f"runs of one program may not differ so: {'; '.join(changes)}")


def _mesh_for(how: str, batch_size: int, mesh: Mesh | None) -> Callable[[int], Mesh]:
    """A function from the number of runs that train together to their mesh."""
    if mesh is not None:
        return functools.partial(for_fewer_runs, mesh)
    if how != "mesh":
        return lambda runs: make_mesh()

    def divided(runs: int) -> Mesh:
        """As many devices as can share the runs, times as many as can then share a batch."""
        seeds = largest_divisor(runs, jax.device_count())
        return make_mesh(seed=seeds, data=largest_divisor(batch_size, jax.device_count() // seeds))

    return divided


def default_steps_per_dispatch() -> int:
    """20, but 1 on CPUs, where each step takes long enough to be shown and interrupted by itself."""
    return 1 if jax.default_backend() == "cpu" else 20
