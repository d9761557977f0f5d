"""Compute a trained network's predictions, and BatchNorm's averages over the training set."""

from collections.abc import Callable, Iterator
from itertools import groupby
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from cnnjax.data.class_names import class_names
from cnnjax.distributed import fetch
from cnnjax.errors import UserError
from cnnjax.evaluation.inputs import AS_TRAINED, Cropping, cut, of_training
from cnnjax.evaluation.predictions import Predictions
from cnnjax.mesh import check_divisible, make_mesh
from cnnjax.network import Variables
from cnnjax.ops.conv import compiled_for
from cnnjax.probes.forward import reestimate
from cnnjax.training.inputs import InMemory, Streamed, make_input
from cnnjax.training.task import Task


def classify(
    task: Task, variables: Variables, how: Cropping = AS_TRAINED, mesh: Mesh | None = None
) -> Predictions:
    """Predict each test example of a task once; `classifier` is for several variables of one network."""
    return classifier(task, how, mesh)(variables)


def classifier(
    task: Task, how: Cropping = AS_TRAINED, mesh: Mesh | None = None
) -> Callable[[Variables], Predictions]:
    """A function from variables to predictions: the mean of the softmax over the windows of each image.

    One program is compiled, for a batch of windows; the devices share each batch.

    Raises:
        UserError: the outputs are no logits of classes, or the images do not fit.
    """
    mesh = mesh or make_mesh()
    check_divisible(task.config.batch_size, mesh, runs=1)
    if "error" not in task.metrics:
        raise UserError(f"{task.short_name}: its outputs are no logits of classes, which crops average")
    cutting = cut(task, how, mesh)
    outputs = [view.output for view in cutting.views]

    @jax.jit
    def probabilities(variables: Variables, arrays: Any, inputs: Any) -> tuple[jax.Array, Any]:
        raw, labels = cutting.source.select_batch(arrays, inputs)
        total: Any = 0.0
        windows = iter(cutting.windows(raw))
        for _, same in groupby(outputs):  # those of one size go through the network together
            stacked = jnp.stack([next(windows) for _ in same])
            flat = stacked.reshape(-1, *stacked.shape[2:])
            with compiled_for(mesh.devices.flat[0].platform):
                logits, _ = task.network.apply(variables, flat, train=False)
            total += jax.nn.softmax(logits).reshape(*stacked.shape[:2], -1).sum(0)
        return total / len(outputs), labels

    def predict(variables: Variables) -> Predictions:
        source = cutting.source
        pairs = [fetch(probabilities(variables, source.test_arrays, inputs)) for inputs in _batches(source)]
        means, labels = (np.concatenate(part)[: source.test_examples] for part in zip(*pairs, strict=True))
        names = class_names(task.data) or tuple(map(str, range(means.shape[1])))
        return Predictions(means, labels, names)

    return predict


def reestimate_averages(task: Task, variables: Variables, mesh: Mesh | None = None) -> Variables:
    """The variables with BatchNorm's averages those of the training set under these parameters.

    Ioffe and Szegedy 2015, algorithm 2: each layer's mean and variance are the means, over training batches,
    of the batch's mean and variance (biased, as Flax and PyTorch's forward pass have it), where what comes
    before is normalised by the batch's own. Images are as in tests, not augmented; a last batch that is not
    full is left out. He et al. 2015 too published averages over the training data, not moving ones.

    Raises:
        UserError: the network carries no averages.
    """
    if set(variables) == {"params"}:
        raise UserError(f"{task.short_name}: has no BatchNorm whose averages could be estimated anew")
    mesh = mesh or make_mesh()
    task = of_training(task)
    source = make_input(task.data, task.config, mesh, task.network.source)

    @jax.jit
    def averages(variables: Variables, arrays: Any, inputs: Any) -> Any:
        raw, _ = source.select_batch(arrays, inputs)
        with compiled_for(mesh.devices.flat[0].platform):
            return reestimate(
                task.network,
                variables,
                task.normalize(raw),
                lambda function, params, inputs: function(params, inputs),
            )

    whole = max(1, source.test_examples // task.config.batch_size)
    total: Any = None
    for _, inputs in zip(range(whole), _batches(source), strict=False):
        one = averages(variables, source.test_arrays, inputs)
        total = one if total is None else jax.tree.map(_add, total, one)
    return {**variables, **jax.tree.map(lambda leaf: leaf / whole if _is_float(leaf) else leaf, total)}


def _add(one: jax.Array, other: jax.Array) -> jax.Array:
    return one + other if _is_float(one) else other


def _is_float(leaf: jax.Array) -> bool:
    return jnp.issubdtype(leaf.dtype, jnp.floating)


def _batches(source: InMemory | Streamed) -> Iterator[Any]:
    with source.testing() as batches:
        yield from batches
