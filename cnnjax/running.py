"""`train`, `train_many` and `evaluate`: from a Config, and objects that replace its names, to results."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from cnnjax.config import KEEP, CheckpointPolicy, Config, MultiRunMode, Shard
from cnnjax.errors import UserError
from cnnjax.evaluation import AS_TRAINED, Cropping, Crops, as_cropping, classify, reestimate_averages
from cnnjax.evaluation.scores import log_of
from cnnjax.mesh import check_divisible, make_mesh
from cnnjax.recipes import Objects, resolve
from cnnjax.sinks import make_sinks
from cnnjax.training.arguments import check_arguments, check_config, check_mesh, check_variables
from cnnjax.training.callbacks import Callback
from cnnjax.training.program import Program
from cnnjax.training.record import kept_whitening
from cnnjax.training.session import Result, Session, train_runs
from cnnjax.training.stop import Stop
from cnnjax.training.task import PerExample


def train(
    config: Config,
    out: Path | str,
    *,
    model: Any = None,
    optimizer: optax.GradientTransformation | None = None,
    loss: PerExample | None = None,
    data: Any = None,
    augment: Callable[..., Any] | None = None,
    metrics: Mapping[str, PerExample] | Sequence[str] | None = None,
    probes: Any = (),
    initial: Any = None,
    callbacks: Sequence[Callback] = (),
    mesh: Mesh | None = None,
    shard: Shard = "replicated",
    sinks: Any = (),
    steps_per_dispatch: int | None = None,
    keep: CheckpointPolicy = KEEP,
    resume: int | None = None,
    say: Callable[[str], None] = print,
) -> Result:
    """Train as `config` says, write all to the folder `out`, and continue where an earlier call stopped.

    On the same machine, a run that was interrupted, at any moment and any number of times, ends with the same
    bits as an undisturbed one. The first eight keyword arguments are objects that replace the config's names;
    to continue a run, pass the same ones.

    Args:
        config: what to run.
        out: the folder; it may hold an earlier run of the same config on the same data, finished or not, also
            one of fewer steps unless the schedule depends on their number. Nothing is written there before
            the first step.
        model: a `flax.linen.Module`; a function from `rngs` to a `flax.nnx.Module`, or such a module; a pair
            of functions (init, apply); or one of Equinox's or Haiku's (`cnnjax.network.as_network`).
        optimizer: an `optax.GradientTransformation`, which brings its own learning rate.
        loss: a function of outputs and labels [batch, ...] to one number for each example, [batch].
        data: arrays (x, y, x_test, y_test), sources (train, test) with `len` and `[i]` -> (input, label), or
            what `cnnjax.data` opens; see there.
        augment: a jax function of (key, inputs) to inputs, or of (key, inputs, labels) to both, for training.
        metrics: functions like `loss`, by name, or names of ours; their means over the test set are
            `test_NAME`.
        probes: one or a list of instances of `cnnjax.probes.Probe`, such as `cnnjax.probes.LayerProbe()`, or
            of names; they measure the steps that are due.
        initial: variables to start from, or the path of a run or a file of weights.
        callbacks: instances of `cnnjax.Callback`, called on the host, such as `cnnjax.EarlyStopping()`.
        mesh: the devices; by default all of them, on the data axis.
        shard: how the state is divided over them, a name in `cnnjax.mesh.SHARDS`.
        sinks: one or a list of where the numbers go besides metrics.jsonl: instances of
            `cnnjax.sinks.Sink`, such as `cnnjax.sinks.TensorBoard()`, names of `cnnjax.sinks.SINKS`, or
            objects with metrax's logging protocol. A sink that fails is left out.
        steps_per_dispatch: largest number of steps in one program, by default 1 on CPUs and 20 elsewhere; the
            number used divides the steps between evaluations and between checkpoints.
        keep: which checkpoints to keep.
        resume: a step to go back to first, once; everything later is moved to `out`/after_STEP. By default
            the run continues from its newest intact checkpoint.
        say: called with lines about resuming and damaged files, which are set aside in the same place.

    Raises:
        UserError: bad input, such as an `out` that holds another run, or an object that does not fit.
        Interrupted: Ctrl-C or SIGTERM came; the state is saved.
        Diverged: a loss or metric is not finite; everything saved before is intact.
    """
    objects = Objects(model, optimizer, loss, data, augment, metrics, probes, initial)
    session = Session(mesh, shard, make_sinks(sinks), callbacks, steps_per_dispatch, keep, resume, say)
    return _train([config], [out], "sequential", objects, session)[0]


def train_many(
    configs: Sequence[Config],
    outs: Sequence[Path | str],
    how: MultiRunMode = "sequential",
    *,
    mesh: Mesh | None = None,
    shard: Shard = "replicated",
    sinks: Any = (),
    callbacks: Sequence[Callback] = (),
    steps_per_dispatch: int | None = None,
    keep: CheckpointPolicy = KEEP,
    resume: int | None = None,
    say: Callable[[str], None] = print,
    **objects: Any,
) -> list[Result]:
    """Train each config in its own folder as `train` does, all with one program.

    They may differ in seeds, learning rate and weight decay. Every `how` gives the same files and, up to
    rounding, the same numbers, and runs started one way may continue another way. The other arguments are
    those of `train`.

    Args:
        configs: what to run.
        outs: a folder for each.
        how: "sequential", one run after the other; "vmap", all at once; "mesh", all at once, divided over
            the devices, and their batches too if there are more devices. Runs that were interrupted at
            different steps continue in groups.
        mesh: the devices, instead of those that `how` chooses; its seed axis divides the runs that train
            together.

    Raises:
        UserError, Interrupted, Diverged: as in `train`; an error in one run stops all.
    """
    session = Session(mesh, shard, make_sinks(sinks), callbacks, steps_per_dispatch, keep, resume, say)
    return _train(configs, outs, how, _objects(objects), session)


def evaluate(
    config: Config,
    variables: dict[str, Any],
    *,
    mesh: Mesh | None = None,
    crops: Crops | Cropping = 1,
    reestimate: bool = False,
    say: Callable[[str], None] = print,
    **objects: Any,
) -> dict[str, float]:
    """Compute `test_loss` (nats) and the other `test_` metrics on the config's test set, each example once.

    Args:
        config: what was trained.
        variables: of the network.
        mesh: the devices; by default all of them.
        crops: windows of each image whose softmax is averaged: 1, 5, 10, 144, 150, or "dense" for the whole
            image; or a `cnnjax.evaluation.Cropping`, which has their side, padding and scales too. Then
            `test_loss` is the negative log-likelihood of the mean, and metrics get its logarithm as outputs.
        reestimate: whether to estimate BatchNorm's averages over the training set first.
        say: called with a line about pictures that are skipped.
        objects: they replace names as in `train`: `model`, `loss`, `data`, `metrics`.

    Raises:
        UserError: bad input, such as `variables` of another network.
    """
    how = as_cropping(crops)
    check_config(config)
    check_mesh(mesh)
    mesh = mesh or make_mesh()
    check_divisible(config.batch_size, mesh, runs=1)
    task = dataclasses.replace(resolve(config, _objects(objects)), initial=None)  # nothing begins
    if task.omitted:
        say(task.omitted)
    program = Program(task, mesh)
    check_variables(variables, program.state_shapes.variables, config.model)
    if reestimate:
        variables = reestimate_averages(task, variables, mesh)
    if how == AS_TRAINED:
        return program.evaluate(program.put([variables]), Stop())[0]
    found = classify(task, variables, how, mesh)
    logarithms = jnp.asarray(log_of(found.probabilities), jnp.result_type(float))
    metrics = {name: float(metric(logarithms, found.labels).mean()) for name, metric in task.metrics.items()}
    return {f"test_{name}": value for name, value in {"loss": found.scores["loss"], **metrics}.items()}


def _train(
    configs: Sequence[Config],
    outs: Sequence[Path | str],
    how: MultiRunMode,
    objects: Objects,
    session: Session,
) -> list[Result]:
    check_arguments(configs, outs, session)
    folders = [Path(out) for out in outs]
    if configs[0].normalize == "zca":  # a run goes on with the numbers it began with
        objects = dataclasses.replace(objects, whitening=kept_whitening(folders) or objects.whitening)
    return train_runs(resolve(configs[0], objects), configs, folders, how, session)


def _objects(given: Mapping[str, Any]) -> Objects:
    try:
        return Objects(**given)
    except TypeError:
        known = Objects.__dataclass_fields__
        unknown = next(name for name in given if name not in known)
        raise UserError(f"there is no argument {unknown!r}; objects are {', '.join(known)}") from None
