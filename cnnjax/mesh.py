"""The device mesh and the placement of arrays on it; only this file knows the names of the axes.

Runs that train at once are divided over the axis `seed`, a batch over `data`, and the state (parameters, the
optimizer's state, BatchNorm's averages) by one of SHARDS. XLA derives from this
what devices exchange in a step:

- Over `data`: all-reduces of the gradients, of two sums a channel in each BatchNorm, whose statistics are those
  of the whole batch, and of the loss and the errors. In the backward pass a BatchNorm needs the gradients of
  its scale and bias before it can go on. With a `bn_group_size` statistics are of parts of the batch, and
  only the running averages are exchanged, all of them at once.
- "replicated": nothing more. All devices along `model` do the same work.
- "model": every layer's outputs, and with them its kernel, are divided over `model`. A layer that takes all
  channels gathers its input and sums the gradient by it. A grouped convolution exchanges nothing where its
  groups divide over the axis: on two devices AlexNet's towers meet in its third convolution and in the fully
  connected layers alone, as they did in the paper.
- "fsdp": the same, and large arrays are divided over `data` too. Each is gathered once, for its use in the
  forward and the backward pass, and of its gradient's sum a device keeps its part, which it updates.
"""

import functools
import math
from collections.abc import Callable, Sequence
from numbers import Integral
from typing import Any, Literal, get_args

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from cnnjax.errors import UserError, short
from cnnjax.ops.depth import is_stacked

SEED, DATA, MODEL = AXES = "seed", "data", "model"
Shard = Literal["replicated", "model", "fsdp"]  # as in cnnjax.config, where no jax is
SHARDS = get_args(Shard)
SMALL = 1024  # elements; to bring fewer together costs more than their memory is worth


def make_mesh(
    data: int | None = None, model: int = 1, seed: int = 1, *, devices: Sequence[Any] | None = None
) -> Mesh:
    """A mesh of `seed` x `data` x `model` devices; by default every device is on the data axis.

    Runs that train at once are divided over the seed axis, a batch over the data axis. The devices are
    those of JAX when not given.

    Raises:
        UserError: there are fewer devices than that.
    """
    sizes = {"seed": seed, "data": data, "model": model}
    for name, size in sizes.items():
        if not isinstance(size, Integral) and not (name == "data" and size is None):
            raise UserError(f"{name}={short(size)}: must be a number of devices, such as 2")
    devices = jax.devices() if devices is None else devices
    data = max(1, len(devices) // max(1, seed * model)) if data is None else data
    shape = seed, data, model
    size = math.prod(shape)
    if min(shape) < 1:
        raise UserError(f"a mesh of seed={seed}, data={data}, model={model}: each must be at least 1")
    if size > len(devices):
        raise UserError(
            f"a mesh of seed={seed}, data={data}, model={model} needs {size} devices: {len(devices)} found"
        )
    grid = np.array(devices[:size]).reshape(shape)
    return Mesh(grid, AXES, axis_types=(AxisType.Auto,) * 3)


def parse_mesh(text: str, devices: Sequence[Any] | None = None) -> Mesh:
    """Make the mesh that `text`, such as "data=4,model=2", describes; other axes are as in `make_mesh`.

    Raises:
        UserError: it cannot be parsed, or there are fewer devices than that.
    """
    if not isinstance(text, str):
        raise UserError(f"mesh {short(text)}: must be devices of axes as text, such as 'data=4,model=2'")
    sizes: dict[str, int] = {}
    for axis in text.split(","):
        name, _, size = axis.partition("=")
        if name not in AXES:
            raise UserError(f"mesh {text!r}: unknown axis {name!r}, must be of {', '.join(AXES)}")
        if not size.isdecimal() or name in sizes:
            raise UserError(f"mesh {text!r}: each axis has one number of devices, as in data=4,model=2")
        sizes[name] = int(size)
    return make_mesh(**sizes, devices=devices)


def for_fewer_runs(mesh: Mesh, runs: int) -> Mesh:
    """The part of `mesh` that this many runs can share: its seed axis is shortened until it divides them."""
    seeds = math.gcd(mesh.shape[SEED], runs)
    return Mesh(mesh.devices[:seeds], AXES, axis_types=mesh.axis_types)


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


def shardings(tree: Any, mesh: Mesh, shard: Shard) -> Any:
    """The shardings of a run's tree, such as its parameters, with arrays [run, ...] of several runs."""

    def place(path: Any, array: Any) -> NamedSharding:
        return NamedSharding(mesh, PartitionSpec(SEED, *_divided(path, array.shape, mesh, shard)))

    return jax.tree_util.tree_map_with_path(place, tree)


def gather(params: Any, mesh: Mesh, shard: Shard) -> Any:
    """Gather the parameters of a run for use in a step; at most the model axis still divides them.

    Without this, XLA may decide that moving activations is cheaper than gathering a kernel.
    """
    if shard != "fsdp":
        return params

    def place(path: Any, array: Any) -> NamedSharding:
        return NamedSharding(mesh, PartitionSpec(*_divided(path, array.shape, mesh, "model")))

    return jax.lax.with_sharding_constraint(params, jax.tree_util.tree_map_with_path(place, params))


def _divided(path: Any, shape: Sequence[int], mesh: Mesh, shard: Shard) -> list[tuple[str, ...] | None]:
    """For each axis of an array the names of the mesh's axes that it is divided over."""
    left = list(shape)
    names: list[tuple[str, ...]] = [()] * len(left)

    def divide(name: str, axes: Sequence[int]) -> None:
        fit = [axis for axis in axes if left[axis] % mesh.shape[name] == 0]
        if fit:
            longest = max(fit, key=lambda axis: left[axis])
            left[longest] //= mesh.shape[name]
            names[longest] += (name,)

    axes = range(len(left))
    if shard != "replicated":
        divide(MODEL, axes[-1:])
    if shard == "fsdp" and math.prod(shape) >= SMALL:
        # Arrays stacked over depth are taken apart along their first axis, block after block.
        divide(DATA, axes[1:] if is_stacked(path) else axes)
    return [name or None for name in names]


def by_groups(mesh: Mesh, shard: Shard) -> Callable[..., jax.Array]:
    """How grouped convolutions are divided, for `cnnjax.ops.groups.divided`.

    Each device has its part of the batch and the channels of its own groups, before and after, so that only
    the kernel's gradient is exchanged, over `data`. XLA alone would gather all channels over `model` and, for
    the gradients, all images over `data`.
    """
    alike = shard == "replicated" and mesh.shape[MODEL] > 1  # what devices along `model` are
    whole = alike or mesh.size == 1 or mesh.shape[SEED] > 1

    def divide(
        convolve: Callable[..., jax.Array], images: jax.Array, kernel: jax.Array, groups: int
    ) -> jax.Array:
        # Probes trace networks with one image, which is no step's batch.
        if whole or groups % mesh.shape[MODEL] or len(images) % mesh.shape[DATA]:
            return convolve(images, kernel, groups)
        # There is one seed; not to name its axis would be a sum over it.
        channels = PartitionSpec((SEED, DATA), *[None] * (images.ndim - 2), MODEL)
        return jax.shard_map(
            functools.partial(convolve, groups=groups // mesh.shape[MODEL]),
            mesh=mesh,
            in_specs=(channels, PartitionSpec(*[None] * (kernel.ndim - 1), MODEL)),
            out_specs=channels,
            check_vma=False,  # as in `for_runs`
        )(images, kernel)

    return divide


def for_runs(function: Callable, mesh: Mesh, in_axes: tuple[int | None, ...]) -> Callable:
    """Turn a function of one run into one of several runs, divided over the seed axis.

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


def check_shard(shard: Shard, mesh: Mesh) -> None:
    """Raise UserError unless the state can be divided by `shard`, one of SHARDS, on this mesh."""
    if shard not in SHARDS:
        raise UserError(f"shard={shard!r}: must be one of {', '.join(SHARDS)}")
    if shard != "replicated" and mesh.shape[SEED] > 1:
        # XLA's partitioner aborts the process where some axes are its own and some are not.
        raise UserError(f"shard={shard!r} needs a mesh with seed=1, not seed={mesh.shape[SEED]}")


def check_divisible(batch_size: int, mesh: Mesh, runs: int | None = None) -> None:
    """Raise UserError unless a batch divides evenly over the data axis, and the runs over the seed axis."""
    for what, number, axis in (("batch size", batch_size, DATA), ("number of runs", runs, SEED)):
        if number is not None and number % (shards := mesh.shape[axis]):
            near = max(shards, number // shards * shards)
            raise UserError(f"{what} {number} does not divide over {shards} devices: try {near}")
