"""The training loop: the only one. Experiments are lists of configs for it."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax.sharding import Mesh
from tqdm import tqdm

from cnnjax.config import Config, differences
from cnnjax.data import Dataset, load
from cnnjax.data.augment import AUGMENTATIONS, normalizer
from cnnjax.data.batches import batch_indices
from cnnjax.errors import Interrupted, UserError
from cnnjax.files import read_json, write_json
from cnnjax.mesh import check_divisible, make_mesh, over_data, replicated
from cnnjax.models import build, lay_out, unstack
from cnnjax.training.checkpoint import Checkpoints
from cnnjax.training.losses import make_loss
from cnnjax.training.optim import learning_rate, make_optimizer
from cnnjax.training.progress import Progress
from cnnjax.training.record import Record, environment, write_arrays
from cnnjax.training.step import NoProbe, Probe, State, init_state, make_eval_step, make_train_step
from cnnjax.training.stop import Stop, locked, stop_on_signals

LOG_EVERY = 10  # steps whose metrics are fetched from the device at once
IN_FLIGHT = 4  # steps dispatched ahead: keeps the device busy, and a signal is answered soon


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
    variables: dict[str, Any]


def train(
    config: Config,
    out: Path | str,
    *,
    data: Dataset | None = None,
    mesh: Mesh | None = None,
    tensorboard: bool = False,
    probes: Probe | None = None,
    say: Callable[[str], None] = tqdm.write,
) -> Result:
    """Train as `config` says and leave everything in the folder `out`; go on where an earlier call stopped.

    On the same machine a run that was interrupted, at any moment and any number of times, ends with the same
    bits as one that was not.

    Args:
        config: what to run.
        out: the folder; it may hold an earlier, unfinished call of the same config.
        data: the data set, loaded by `config.data` when not given.
        mesh: the devices, all of them on the data axis when not given.
        tensorboard: also write TensorBoard files, to `out`/tensorboard.
        probes: measure the steps that are due, such as `cnnjax.probes.LayerProbe()`; the arrays of the step
            after s steps go to `out`/probes/step_s.npz.
        say: gets lines about resuming and damaged checkpoints.

    Raises:
        UserError: bad input, such as an `out` that holds another config's run.
        Interrupted: Ctrl-C or SIGTERM came; the state is saved.
        Diverged: the loss is not finite; what was saved before is intact.
    """
    out = Path(out)
    mesh = mesh or make_mesh()
    check_divisible(config.batch_size, mesh)
    out.mkdir(parents=True, exist_ok=True)
    with locked(out), stop_on_signals() as stop:
        _claim(out, config)
        data = _prepare(data or load(config.data), config)
        return _run(config, out, data, mesh, tensorboard, probes or NoProbe(), say, stop)


def evaluate(
    config: Config, variables: dict[str, Any], *, data: Dataset | None = None, mesh: Mesh | None = None
) -> dict[str, float]:
    """`test_loss` (nats) and `test_error` (fraction) of every image of the config's test set, once each."""
    mesh = mesh or make_mesh()
    check_divisible(config.batch_size, mesh)
    data = _prepare(data or load(config.data), config)
    normalize = normalizer(data.train_images, config.normalize)
    return _evaluator(config, _build(config, data), normalize, data, mesh)(variables, Stop())


def _prepare(data: Dataset, config: Config) -> Dataset:
    if config.validation:
        data = data.split(config.validation, config.seed)
    return data.downsampled(config.downsample)


def _build(config: Config, data: Dataset) -> nn.Module:
    defaults = {"num_classes": data.classes, "dtype": jnp.dtype(config.dtype)}
    return build(config.model, **{**defaults, **config.model_options})


def _claim(out: Path, config: Config) -> None:
    """Write config.json, or make sure that the one there is of the same config."""
    path = out / "config.json"
    if path.exists():
        found = read_json(path)["config"]
        if found != config.to_json():
            raise UserError(
                f"{out} holds a run of another configuration "
                f"({'; '.join(differences(found, config.to_json()))}): give another folder or remove that one"
            )
    else:
        write_json(path, {"config": config.to_json(), "environment": environment()})


def _run(
    config: Config,
    out: Path,
    data: Dataset,
    mesh: Mesh,
    tensorboard: bool,
    probe: Probe,
    say: Callable[[str], None],
    stop: Stop,
) -> Result:
    model = _build(config, data)
    optimizer = make_optimizer(config)
    normalize = normalizer(data.train_images, config.normalize)
    plain_step, watched_step = (
        jax.jit(
            make_train_step(
                model,
                optimizer,
                learning_rate(config),
                AUGMENTATIONS[config.augment],
                normalize,
                make_loss(config),
                rider,
            ),
            donate_argnums=0,
            in_shardings=(replicated(mesh), replicated(mesh), replicated(mesh), over_data(mesh), None),
            out_shardings=replicated(mesh),
        )
        for rider in (NoProbe(), probe)
    )
    evaluate_now = _evaluator(config, model, normalize, data, mesh)
    images, labels = jax.device_put((np.asarray(data.train_images), data.train_labels), replicated(mesh))
    key = jax.random.key(config.seed)

    checkpoints = Checkpoints(out / "checkpoints")
    state = init_state(model, optimizer, config.seed, data.train_images.shape[1:])
    step = 0
    if restored := checkpoints.restore(state, say):
        step, state = restored
        say(
            f"{out}: goes on from step {step} of {config.steps}"
            if step < config.steps
            else f"{out}: is finished"
        )
    elif (out / "metrics.jsonl").exists():
        say(f"{out}: no whole checkpoint, starts again from step 0")
    # On disk and in the result variables are by block, whatever the loop over depth works on.
    state: State = jax.device_put(lay_out(state, getattr(model, "loop", "unrolled")), replicated(mesh))
    record = Record(out, step, tensorboard)
    progress = Progress(config, step)
    saved = step
    pending: list[dict[str, jax.Array]] = []
    measured: dict[int, Any] = {}

    def flush():
        first = step - len(pending)
        for index, metrics in enumerate(jax.device_get(pending), start=1):
            record.write(first + index, **{name: float(value) for name, value in metrics.items()})
        pending.clear()
        for at, statistics in jax.device_get(measured).items():
            write_arrays(out / "probes" / f"step_{at}.npz", statistics.arrays())
        measured.clear()
        progress.show(step, record.lines)

    def save():
        flush()
        record.flush()
        checkpoints.save(step, unstack(jax.device_get(state)))

    try:
        while True:
            if _due(step, config.evaluate_every, config.steps) and not record.has("test_error", step):
                flush()
                if test := evaluate_now(state.variables, stop):
                    record.write(step, **test)
            if step != saved and (stop or _due(step, config.checkpoint_every, config.steps)):
                save()
                saved = step
            if stop or step == config.steps:
                break
            indices = batch_indices(config.seed, step, config.batch_size, len(labels))
            train_step = watched_step if probe.due(step) else plain_step
            state, metrics, statistics = train_step(state, images, labels, indices, key)
            if probe.due(step):
                measured[step] = statistics
            pending.append(metrics)
            step += 1
            if len(pending) > IN_FLIGHT:
                jax.block_until_ready(pending[-IN_FLIGHT])
            if step % LOG_EVERY == 0:
                flush()
        checkpoints.wait()
    finally:
        progress.close()
        record.close()
        checkpoints.close()

    if stop.number is not None and not record.has("test_error", config.steps):
        message = (
            f"stopped at step {step} of {config.steps}, saved in {out}; the same command goes on from there"
        )
        raise Interrupted(message, stop.number)
    metrics = record.final(config.steps)
    write_json(
        out / "result.json", {"config": config.to_json(), "metrics": metrics, "environment": environment()}
    )
    return Result(config, out, metrics, unstack(state.variables))


def _due(step: int, every: int, last: int) -> bool:
    return step == last or (step > 0 and step % every == 0)


def _evaluator(
    config: Config, model: nn.Module, normalize: Callable, data: Dataset, mesh: Mesh
) -> Callable[[Any, Stop], dict[str, float]]:
    """A function of (variables, stop) to the test loss and error; empty if it was stopped."""
    eval_step = jax.jit(
        make_eval_step(model, normalize, make_loss(config)),
        in_shardings=(replicated(mesh), replicated(mesh), replicated(mesh), over_data(mesh), over_data(mesh)),
        out_shardings=replicated(mesh),
    )
    images, labels = jax.device_put((np.asarray(data.test_images), data.test_labels), replicated(mesh))
    examples = len(data.test_labels)

    def evaluate_now(variables, stop):
        sums = []
        for first in range(0, examples, config.batch_size):
            if stop:
                return {}
            positions = np.arange(first, first + config.batch_size)
            # The last batch is padded, so that every batch has one shape and every image counts once.
            sums.append(eval_step(variables, images, labels, positions % examples, positions < examples))
            if len(sums) > IN_FLIGHT:
                jax.block_until_ready(sums[-IN_FLIGHT])
        losses, errors = zip(*jax.device_get(sums), strict=True)
        return {
            "test_loss": float(np.sum(losses, dtype=np.float64)) / examples,
            "test_error": int(sum(errors)) / examples,
        }

    return evaluate_now
