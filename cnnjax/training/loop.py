"""The training loop: the only one. Experiments are lists of configs for it.

It works on runs of one program that take their steps together; a run by itself is a list of one.
"""

import contextlib
import dataclasses
import functools
import math
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
from jax.sharding import Mesh
from tqdm import tqdm

from cnnjax.config import KEEP, Config, How, Keep, Shard, differences
from cnnjax.data import Dataset, Stream, open_data
from cnnjax.distributed import fetch
from cnnjax.errors import Interrupted, UserError
from cnnjax.mesh import check_divisible, check_shard, for_fewer_runs, make_mesh
from cnnjax.training.arguments import check_arguments, check_variables
from cnnjax.training.claim import check_claim
from cnnjax.training.divergence import check_weights
from cnnjax.training.lock import locked
from cnnjax.training.program import Program, shared
from cnnjax.training.progress import Progress
from cnnjax.training.rewind import check_rewind, rewind
from cnnjax.training.run import Run, opened
from cnnjax.training.step import Metrics, NoProbe, Probe
from cnnjax.training.stop import IN_FLIGHT, Stop, stop_on_signals


@dataclasses.dataclass(frozen=True)
class Result:
    """A finished run.

    Attributes:
        config: what was run.
        out: its folder, with metrics.jsonl and result.json.
        metrics: final values: `train_loss` and `train_error` averaged over the last tenth of the steps,
            `test_loss` and `test_error` of the last weights. Losses in nats, errors as fractions.
        variables: the last weights and BatchNorm statistics, for `model.apply`.
    """

    config: Config
    out: Path
    metrics: dict[str, float]
    variables: dict[str, Any] = dataclasses.field(repr=False)

    def __repr__(self) -> str:
        weights = sum(leaf.size for leaf in jax.tree.leaves(self.variables.get("params", {})))
        values = ", ".join(f"{name} {value:.4g}" for name, value in self.metrics.items())
        return (
            f"Result of {self.config.model} on {self.config.data}, {self.config.steps} steps, in {self.out}\n"
            f"  {values}\n"
            f"  .config, .metrics and .variables, {weights:,} weights in {len(self.variables)} collections"
        )


def train(
    config: Config,
    out: Path | str,
    *,
    data: Dataset | Stream | None = None,
    mesh: Mesh | None = None,
    shard: Shard = "replicated",
    tensorboard: bool = False,
    probes: Probe | None = None,
    steps_per_dispatch: int | None = None,
    keep: Keep = KEEP,
    resume: int | None = None,
    say: Callable[[str], None] = tqdm.write,
) -> Result:
    """Train as `config` says and leave everything in the folder `out`; go on where an earlier call stopped.

    On the same machine a run that was interrupted, at any moment and any number of times, ends with the same
    bits as one that was not.

    Args:
        config: what to run.
        out: the folder; it may hold an earlier call of the same config on the same data, finished or not, or
            one of fewer steps, unless the schedule is cosine. Nothing is written there before the first step.
        data: the data set, loaded by `config.data` when not given.
        mesh: the devices, all of them on the data axis when not given.
        shard: how the state is divided over them, a name in `cnnjax.mesh.SHARDS`.
        tensorboard: also write TensorBoard files, to `out`/tensorboard.
        probes: measure the steps that are due, such as `cnnjax.probes.LayerProbe()`; the arrays of the step
            after s steps go to `out`/probes/step_s.npz.
        steps_per_dispatch: at most so many steps are one program, 1 on CPUs and else 20 when not given; they
            divide the steps between evaluations and between checkpoints.
        keep: which checkpoints stay.
        resume: go back to the checkpoint of this step first, once; what came later is moved to
            `out`/after_STEP. By default the run goes on from its newest whole checkpoint.
        say: gets lines about resuming and damaged files, which are set aside beside where they were.

    Raises:
        UserError: bad input, such as an `out` that holds another config's run, or one on other data.
        Interrupted: Ctrl-C or SIGTERM came; the state is saved.
        Diverged: the loss is not finite; what was saved before is intact.
    """
    return train_many(
        [config],
        [out],
        data=data,
        mesh=mesh,
        shard=shard,
        tensorboard=tensorboard,
        probes=probes,
        steps_per_dispatch=steps_per_dispatch,
        keep=keep,
        resume=resume,
        say=say,
    )[0]


def train_many(
    configs: Sequence[Config],
    outs: Sequence[Path | str],
    how: How = "sequential",
    *,
    data: Dataset | Stream | None = None,
    mesh: Mesh | None = None,
    shard: Shard = "replicated",
    tensorboard: bool = False,
    probes: Probe | None = None,
    steps_per_dispatch: int | None = None,
    keep: Keep = KEEP,
    resume: int | None = None,
    say: Callable[[str], None] = tqdm.write,
) -> list[Result]:
    """Train each config in its own folder as `train` does, all with one program.

    They may differ in seed, learning rate and weight decay. Numbers, up to rounding, and files are the same
    whatever `how`, and runs begun one way may go on another way. The other arguments are those of `train`.

    Args:
        configs: what to run.
        outs: a folder for each.
        how: "sequential", one run after the other; "vmap", all at once; "mesh", all at once, divided over
            the devices, and their batches too where there are more devices. Runs that were interrupted at
            different steps go on in groups.
        mesh: the devices, if `how` should not choose; its seed axis divides the runs that train at once.

    Raises:
        UserError, Interrupted, Diverged: as `train`; what stops one run stops all.
    """
    meshes = {
        "sequential": lambda runs: make_mesh(),
        "vmap": lambda runs: make_mesh(),
        "mesh": lambda runs: _mesh_for(runs, configs[0].batch_size),
    }
    if how not in meshes:
        raise UserError(f"how={how!r}: must be one of {', '.join(meshes)}")
    check_arguments(configs, outs, data, mesh, probes, steps_per_dispatch, keep, resume)
    for config in configs[1:]:
        if changes := differences(shared(configs[0]).to_json(), shared(config).to_json()):
            raise UserError(f"runs of one program may not differ so: {'; '.join(changes)}")
    outs = [Path(out) for out in outs]
    at_once = 1 if how == "sequential" else len(configs)
    mesh_for = meshes[how] if mesh is None else functools.partial(for_fewer_runs, mesh)
    check_divisible(configs[0].batch_size, mesh or mesh_for(at_once))
    check_shard(shard, mesh_for(at_once))
    if steps_per_dispatch is None:
        steps_per_dispatch = default_steps_per_dispatch()
    results: dict[Path, Result] = {}
    with contextlib.ExitStack() as held, stop_on_signals() as stop:
        for out in outs:
            held.enter_context(locked(out))
        data = data or open_data(configs[0].data)
        digest = data.digest
        for config, out in zip(configs, outs, strict=True):
            check_claim(out, config, digest, say)
        data = _prepare(data, configs[0])
        probe = probes or NoProbe()
        program = functools.cache(lambda mesh: Program(configs[0], data, mesh, probe, shard))
        shapes = program(mesh_for(at_once)).shapes
        if resume is not None:
            check_rewind(outs, resume)
            for out in outs:
                rewind(out, resume, say)
        for first in range(0, len(configs), at_once):
            some = slice(first, first + at_once)
            with contextlib.ExitStack() as folders:
                runs = [
                    folders.enter_context(opened(config, digest, out, shapes, tensorboard, keep, say))
                    for config, out in zip(configs[some], outs[some], strict=True)
                ]
                for run in runs:
                    run.check_probes(probe.due, say)
                left = [run for run in runs if run.result is None]
                done = [_result(run, run.state.variables) for run in runs if run.result and run.state]
                for step in sorted({run.step for run in left}):
                    group = [run for run in left if run.step == step]
                    done += _advance(group, program(mesh_for(len(group))), probe, steps_per_dispatch, stop)
                results |= {result.out: result for result in done}
    return [results[out] for out in outs]


def default_steps_per_dispatch() -> int:
    """At most so many; a CPU's steps are long, so they show, and stop for a signal, one by one."""
    return 1 if jax.default_backend() == "cpu" else 20


def evaluate(
    config: Config,
    variables: dict[str, Any],
    *,
    data: Dataset | Stream | None = None,
    mesh: Mesh | None = None,
) -> dict[str, float]:
    """`test_loss` (nats) and `test_error` (fraction) of every image of the config's test set, once each.

    Raises:
        UserError: bad input, such as `variables` of another network.
    """
    check_arguments([config], ["-"], data, mesh)
    mesh = mesh or make_mesh()
    check_divisible(config.batch_size, mesh, runs=1)
    program = Program(config, _prepare(data or open_data(config.data), config), mesh, NoProbe())
    check_variables(variables, program.shapes.variables, config.model)
    return program.evaluate(program.put([variables]), Stop())[0]


def _prepare(data: Dataset | Stream, config: Config) -> Dataset | Stream:
    if config.validation:
        data = data.split(config.validation, config.seed)
    return data.downsampled(config.downsample)


def _mesh_for(runs: int, batch_size: int) -> Mesh:
    """As many devices as can share so many runs, times as many as can then share a batch."""
    seeds = _largest_divisor(runs, jax.device_count())
    return make_mesh(seed=seeds, data=_largest_divisor(batch_size, jax.device_count() // seeds))


def _largest_divisor(number: int, limit: int) -> int:
    return next(divisor for divisor in range(limit, 0, -1) if number % divisor == 0)


def _advance(
    runs: Sequence[Run], program: Program, probe: Probe, steps_per_dispatch: int, stop: Stop
) -> list[Result]:
    """Train runs that are at the same step to their end, together."""
    config, step = runs[0].config, runs[0].step
    interval = math.gcd(config.steps, config.evaluate_every, config.checkpoint_every)
    steps_per_dispatch = _largest_divisor(interval, min(steps_per_dispatch, program.input.most_steps))
    configs = [run.config for run in runs]
    own = program.own(configs)
    if step == 0:
        state = program.init([run.config.seed for run in runs])
    else:
        state = program.put([run.state for run in runs])
    for run in runs:
        run.state = None  # its memory is wanted
    progress = Progress(configs, step)
    saved = written = step
    pending: deque[tuple[Metrics, Any]] = deque()

    def write_down(but: int = 0):
        """Bring what all dispatches gave, or all but the last few, to the records."""
        nonlocal written
        while len(pending) > but:
            metrics, measured = fetch(pending.popleft())
            for number, run in enumerate(runs):
                run.begin()
                if measured is not None:
                    run.write_probe(written, jax.tree.map(lambda array, own=number: array[own, 0], measured))
                run.write(written, {name: values[number] for name, values in metrics.items()})
            written += metrics["train_loss"].shape[1]
            progress.show(written, [run.record.lines for run in runs])

    def save():
        write_down()
        for run, its_state in zip(runs, program.get(state), strict=True):
            check_weights(its_state.variables, step, run.out)
            run.save(step, its_state)

    with contextlib.closing(progress), program.input.training(configs, step) as brought:
        while True:
            stop.look()
            tested = all(run.test_error(step) is not None for run in runs)
            if _due(step, config.evaluate_every, config.steps) and not tested:
                write_down()
                for run, test in zip(runs, program.evaluate(state.variables, stop), strict=not stop):
                    if run.test_error(step) is None:
                        run.begin()
                        run.record.write(step, **test)
            if step != saved and (stop or _due(step, config.checkpoint_every, config.steps)):
                save()
                saved = step
            if stop or step == config.steps:
                break
            steps = _steps_from(step, steps_per_dispatch, probe)
            state, metrics, measured = program.train(state, brought(steps), own, probe.due(step))
            stop.listen()  # all is compiled
            pending.append((metrics, measured))
            step = steps.stop
            write_down(but=IN_FLIGHT)
        for run in runs:
            run.checkpoints.wait()

    if stop.number is not None and any(run.test_error(config.steps) is None for run in runs):
        saved_in = (
            f"saved in {', '.join(str(run.out) for run in runs)}" if step else "there is nothing to save"
        )
        raise Interrupted(
            f"stopped at step {step} of {config.steps}, {saved_in}; the same command goes on from there",
            stop.number,
        )
    return [
        _result(run, variables) for run, variables in zip(runs, program.get(state.variables), strict=True)
    ]


def _result(run: Run, variables: dict[str, Any]) -> Result:
    return Result(run.config, run.out, run.finish(), jax.device_put(variables))


def _steps_from(step: int, at_most: int, probe: Probe) -> range:
    """The steps to take in one dispatch: `at_most` from a multiple of it, unless one of them is measured.

    Then, and to the next multiple after a stop between two, they go one by one: three programs at most.
    """
    several = range(step, step + at_most)
    return range(step, step + 1) if step % at_most or any(map(probe.due, several)) else several


def _due(step: int, every: int, last: int) -> bool:
    return step == last or (step > 0 and step % every == 0)
