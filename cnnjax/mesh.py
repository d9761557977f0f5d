"""The device mesh: the only file that knows the names of its axes."""

from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from cnnjax.errors import UserError

DATA, MODEL = "data", "model"


def make_mesh(data: int | None = None, model: int = 1) -> Mesh:
    """A mesh of `data` x `model` devices; by default every device is on the data axis.

    Raises:
        UserError: there are fewer devices than that.
    """
    devices = jax.devices()
    data = max(1, len(devices) // model) if data is None else data
    if data < 1 or model < 1 or data * model > len(devices):
        raise UserError(
            f"a mesh of data={data}, model={model} needs {data * model} devices: {len(devices)} found"
        )
    grid = np.array(devices[: data * model]).reshape(data, model)
    return Mesh(grid, (DATA, MODEL), axis_types=(AxisType.Auto, AxisType.Auto))


def replicated(mesh: Mesh) -> NamedSharding:
    """The same array on every device."""
    return NamedSharding(mesh, PartitionSpec())


def over_data(mesh: Mesh) -> NamedSharding:
    """The leading axis, the batch, divided over the data axis."""
    return NamedSharding(mesh, PartitionSpec(DATA))


def shard_batch(batch: Any, mesh: Mesh) -> Any:
    """Put the arrays of `batch`, each [batch, ...], on the mesh, divided over the data axis.

    Raises:
        UserError: the batch is not a multiple of the data axis.
    """
    for array in jax.tree.leaves(batch):
        check_divisible(len(array), mesh)
    return jax.device_put(batch, over_data(mesh))


def check_divisible(batch_size: int, mesh: Mesh) -> None:
    """Raise UserError unless a batch of this size divides evenly over the data axis."""
    shards = mesh.shape[DATA]
    if batch_size % shards:
        near = max(shards, batch_size // shards * shards)
        raise UserError(f"batch size {batch_size} does not divide over {shards} devices: try {near}")
