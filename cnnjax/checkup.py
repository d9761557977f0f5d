"""Diagnose what has a name: a network of ours, a run, a user's network in a module or file."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from cnnjax.config import Config
from cnnjax.data import Arrays, Dataset
from cnnjax.data.batches import batch_indices
from cnnjax.data.synthetic import synthetic
from cnnjax.diagnosis import Diagnosis, diagnose
from cnnjax.diagnosis.scaling import Scaling, coordinate_check
from cnnjax.errors import UserError
from cnnjax.models import build
from cnnjax.objects import is_object
from cnnjax.recipes import Objects, resolve
from cnnjax.runs import open_run
from cnnjax.training.inputs import train_of
from cnnjax.training.task import Task

SMALL = 64
"""Networks that take larger images than this are shown generated ones of their own size."""


def diagnose_named(name: str, config: Config, data: str | None, steps: int) -> Diagnosis:
    """Diagnose a run with its weights, or a network that `config` initialises.

    Args:
        name: a network's, a run's folder, `package.module:Net` or `path/net.py:Net`.
        config: batch size, optimizer and so on; of a run its own counts, but for the batch size.
        data: a data set; by default the run's, or Fashion-MNIST's embedded part, or generated images.
        steps: of the trial.

    Raises:
        UserError: there is no such network or run, or its data is not held in arrays.
    """
    folder = Path(name).expanduser()
    if folder.is_dir():
        run = open_run(folder)
        task, variables = run.task, run.variables
        config = dataclasses.replace(run.config, batch_size=config.batch_size)
    else:
        task, variables = _task(dataclasses.replace(config, model=name), data), None
    batch = _batch(task, config.batch_size)
    if variables is None:
        variables = task.init(jax.random.key(config.seed), batch[0])
    optimizer = task.optimizer(config.learning_rate, config.weight_decay)
    return diagnose(task.network, variables, batch, optimizer, loss=task.loss, steps=steps)


def over(name: str, field: str, values: Sequence[float], config: Config, data: str | None) -> Scaling:
    """The coordinate check of a network whose `field`, or the number in its name for "depth", has `values`.

    Raises:
        UserError: there is no such network or field.
    """
    if Path(name).expanduser().is_dir():
        raise UserError(f"--over {field}: {name} is a folder, and a run has one size; name a network")
    tasks = {}
    for value in values:
        one = dataclasses.replace(config, model=name)
        whole = int(value) if value == int(value) else value
        if field == "depth" and not is_object(name):
            one = dataclasses.replace(one, model=name.rstrip("0123456789") + str(whole))
        else:
            one = dataclasses.replace(one, model_options={**config.model_options, field: whole})
        tasks[value] = _task(one, data)
    task = next(iter(tasks.values()))  # data, optimizer and loss are the same for all
    batch, key = _batch(task, config.batch_size), jax.random.key(config.seed)
    networks = {value: (one.network, one.init(key, batch[0])) for value, one in tasks.items()}
    optimizer = task.optimizer(config.learning_rate, config.weight_decay)
    return coordinate_check(field, networks, batch, optimizer, task.loss)


def _task(config: Config, data: str | None) -> Task:
    side = 0
    if not is_object(config.model):
        model: Any = build(config.model, **config.model_options)
        side = max(getattr(model, "input_shape", (0,))[:2])
        if hasattr(model, "loop") and "loop" not in config.model_options:  # it compiles faster
            options = {**config.model_options, "loop": "scan"}
            config = dataclasses.replace(config, model_options=options)
    if data is None and side > SMALL:
        images = synthetic(train=max(64, config.batch_size), test=10, size=side)
        return resolve(dataclasses.replace(config, augment="none"), Objects(data=images))
    return resolve(dataclasses.replace(config, data=data or "fashion_mini", augment="none"))


def _batch(task: Task, size: int) -> tuple[Any, Any]:
    """The first batch of a run with seed 0, normalised."""
    if not isinstance(task.data, Dataset | Arrays):
        raise UserError(
            "the data is streamed: call cnnjax.diagnose(model, variables, batch) with a batch of it, or give "
            "--data of a data set in memory, such as fashion_mini"
        )
    everything = train_of(task.data)
    indices = batch_indices(0, 0, size, len(jax.tree.leaves(everything)[0]))
    inputs, labels = jax.tree.map(lambda leaf: np.asarray(leaf)[indices], everything)
    return task.normalize(inputs), labels
