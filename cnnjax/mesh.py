"""The device mesh: the only file that knows the names of its axes."""

import math
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from cnnjax.errors import UserError

SEED, DATA, MODEL = "seed", "data", "model"


def make_mesh(data: int | None = None, model: int = 1, seed: int = 1) -> Mesh:
    """A mesh of `seed` x `data` x `model` devices; by default every device is on the data axis.

    Runs that train at once are divided over the seed axis, a batch over the data axis.

    Raises:
        UserError: there are fewer devices than that.
    """
    devices = jax.devices()
    data = max(1, len(devices) // max(1, seed * model)) if data is None else data
    shape = seed, data, model
    size = math.prod(shape)
    if min(shape) < 1 or size > len(devices):
        raise UserError(
            f"a mesh of seed={seed}, data={data}, model={model} needs {size} devices: {len(devices)} found"
        )
    grid = np.array(devices[:size]).reshape(shape)
    return Mesh(grid, (SEED, DATA, MODEL), axis_types=(AxisType.Auto,) * 3)


def replicated(mesh: Mesh) -> NamedSharding:
    """The same array on every device."""
    return NamedSharding(mesh, PartitionSpec())


def over_data(mesh: Mesh) -> NamedSharding:
    """The leading axis, the batch, divided over the data axis."""
    return NamedSharding(mesh, PartitionSpec(DATA))


def over_seeds(mesh: Mesh) -> NamedSharding:
    """The leading axis, the runs, divided over the seed axis."""
    return NamedSharding(mesh, PartitionSpec(SEED))


def over_seeds_and_data(mesh: Mesh) -> NamedSharding:
    """Indices [run, step, batch]: runs divided over the seed axis, each batch over the data axis."""
    return NamedSharding(mesh, PartitionSpec(SEED, None, DATA))


def share(sharding: NamedSharding, shape: tuple[int, ...]) -> tuple[range, ...]:
    """The part of an array of `shape` that this process's devices hold, along each axis."""
    indices = sharding.addressable_devices_indices_map(shape).values()
    bounds = [
        [part.indices(size) for part, size in zip(index or (), shape, strict=True)] for index in indices
    ]
    return tuple(
        range(min(part[0] for part in along), max(part[1] for part in along))
        for along in zip(*bounds, strict=True)
    )


def for_runs(function: Callable, mesh: Mesh, in_axes: tuple[int | None, ...]) -> Callable:
    """`function` of one run as a function of several, divided over the seed axis.

    Arguments with 0 in `in_axes`, and all results, have a leading axis over runs; those with None are shared.
    """

    def on_one_device(*arguments: Any) -> Any:
        first = next(argument for argument, axis in zip(arguments, in_axes, strict=True) if axis == 0)
        if len(jax.tree.leaves(first)[0]) > 1:
            return jax.vmap(function, in_axes)(*arguments)
        # A run by itself is not mapped, so that its program is the plain one.
        own = [
            argument if axis is None else jax.tree.map(lambda x: x[0], argument)
            for argument, axis in zip(arguments, in_axes, strict=True)
        ]
        return jax.tree.map(lambda x: x[None], function(*own))

    if mesh.shape[SEED] == 1:
        return on_one_device
    return jax.shard_map(
        on_one_device,
        mesh=mesh,
        in_specs=tuple(PartitionSpec() if axis is None else PartitionSpec(SEED) for axis in in_axes),
        out_specs=PartitionSpec(SEED),
        axis_names={SEED},  # the other axes are XLA's to divide, as without a seed axis
        check_vma=False,  # the check knows nothing of the primitives in ops/conv.py
    )


def shard_batch(batch: Any, mesh: Mesh) -> Any:
    """Put the arrays of `batch`, each [batch, ...], on the mesh, divided over the data axis.

    Raises:
        UserError: the batch is not a multiple of the data axis.
    """
    for array in jax.tree.leaves(batch):
        check_divisible(len(array), mesh)
    return jax.device_put(batch, over_data(mesh))


def check_divisible(batch_size: int, mesh: Mesh, runs: int | None = None) -> None:
    """Raise UserError unless a batch divides evenly over the data axis, and the runs over the seed axis."""
    for what, number, axis in (("batch size", batch_size, DATA), ("number of runs", runs, SEED)):
        if number is not None and number % (shards := mesh.shape[axis]):
            near = max(shards, number // shards * shards)
            raise UserError(f"{what} {number} does not divide over {shards} devices: try {near}")
