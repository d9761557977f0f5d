"""`train`, `train_many` and `evaluate`: from a Config, and objects in the place of its names, to results."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import optax
from jax.sharding import Mesh
from tqdm import tqdm

from cnnjax.config import KEEP, CheckpointPolicy, Config, MultiRunMode, Shard
from cnnjax.errors import UserError
from cnnjax.mesh import check_divisible, make_mesh
from cnnjax.recipes import Objects, resolve
from cnnjax.training.arguments import check_arguments, check_config, check_mesh, check_variables
from cnnjax.training.callbacks import Callback
from cnnjax.training.program import Program
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
    tensorboard: bool = False,
    steps_per_dispatch: int | None = None,
    keep: CheckpointPolicy = KEEP,
    resume: int | None = None,
    say: Callable[[str], None] = tqdm.write,
) -> Result:
    """Train as `config` says and leave everything in the folder `out`; go on where an earlier call stopped.

    On the same machine a run that was interrupted, at any moment and any number of times, ends with the same
    bits as one that was not. The first eight arguments by keyword are objects in the place of the config's
    names; a run that goes on must be given the same ones.

    Args:
        config: what to run.
        out: the folder; it may hold an earlier call of the same config on the same data, finished or not, or
            one of fewer steps, unless the schedule depends on their number. Nothing is written there before
            the first step.
        model: a `flax.linen.Module`; a function from `rngs` to a `flax.nnx.Module`, or such a module; a pair
            of functions (init, apply); or one of Equinox's or Haiku's (`cnnjax.network.as_network`).
        optimizer: an `optax.GradientTransformation`, which then has its own learning rate.
        loss: a function of outputs and labels [batch, ...] to one number for each example, [batch].
        data: arrays (x, y, x_test, y_test), sources (train, test) with `len` and `[i]` -> (input, label), or
            what `cnnjax.data` opens; see there for what becomes of them.
        augment: a jax function of (key, inputs) to inputs, or of (key, inputs, labels) to both, for training.
        metrics: functions like `loss`, by name, or names of ours; their means over the test set are
            `test_NAME`.
        probes: what measures the steps that are due, one or a list: instances of `cnnjax.probes.Probe`, such
            as `cnnjax.probes.LayerProbe()`, or names.
        initial: variables to start from, or the path of a run or a file of weights.
        callbacks: called on the host, such as `cnnjax.EarlyStopping()`.
        mesh: the devices, all of them on the data axis when not given.
        shard: how the state is divided over them, a name in `cnnjax.mesh.SHARDS`.
        tensorboard: also write TensorBoard files, to `out`/tensorboard.
        steps_per_dispatch: at most so many steps are one program, 1 on CPUs and else 20 when not given; they
            divide the steps between evaluations and between checkpoints.
        keep: which checkpoints stay.
        resume: go back to the checkpoint of this step first, once; what came later is moved to
            `out`/after_STEP. By default the run goes on from its newest whole checkpoint.
        say: gets lines about resuming and damaged files, which are set aside beside where they were.

    Raises:
        UserError: bad input, such as an `out` that holds another run, or an object that does not fit.
        Interrupted: Ctrl-C or SIGTERM came; the state is saved.
        Diverged: a loss or metric is not finite; what was saved before is intact.
    """
    objects = Objects(model, optimizer, loss, data, augment, metrics, probes, initial)
    session = Session(mesh, shard, tensorboard, callbacks, steps_per_dispatch, keep, resume, say)
    return _train([config], [out], "sequential", objects, session)[0]


def train_many(
    configs: Sequence[Config],
    outs: Sequence[Path | str],
    how: MultiRunMode = "sequential",
    *,
    mesh: Mesh | None = None,
    shard: Shard = "replicated",
    tensorboard: bool = False,
    callbacks: Sequence[Callback] = (),
    steps_per_dispatch: int | None = None,
    keep: CheckpointPolicy = KEEP,
    resume: int | None = None,
    say: Callable[[str], None] = tqdm.write,
    **objects: Any,
) -> list[Result]:
    """Train each config in its own folder as `train` does, all with one program.

    They may differ in seeds, learning rate and weight decay. Numbers, up to rounding, and files are the same
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
    session = Session(mesh, shard, tensorboard, callbacks, steps_per_dispatch, keep, resume, say)
    return _train(configs, outs, how, _objects(objects), session)


def evaluate(
    config: Config, variables: dict[str, Any], *, mesh: Mesh | None = None, **objects: Any
) -> dict[str, float]:
    """`test_loss` (nats) and the other `test_` metrics of the test set of the config, each example once.

    `objects` are those of `train` that stand in the place of names: `model`, `loss`, `data`, `metrics`.

    Raises:
        UserError: bad input, such as `variables` of another network.
    """
    check_config(config)
    check_mesh(mesh)
    mesh = mesh or make_mesh()
    check_divisible(config.batch_size, mesh, runs=1)
    program = Program(resolve(config, _objects(objects)), mesh)
    check_variables(variables, program.state_shapes.variables, config.model)
    return program.evaluate(program.put([variables]), Stop())[0]


def _train(
    configs: Sequence[Config],
    outs: Sequence[Path | str],
    how: MultiRunMode,
    objects: Objects,
    session: Session,
) -> list[Result]:
    check_arguments(configs, outs, session)
    return train_runs(resolve(configs[0], objects), configs, [Path(out) for out in outs], how, session)


def _objects(given: Mapping[str, Any]) -> Objects:
    try:
        return Objects(**given)
    except TypeError:
        known = Objects.__dataclass_fields__
        unknown = next(name for name in given if name not in known)
        raise UserError(f"there is no argument {unknown!r}; objects are {', '.join(known)}") from None
