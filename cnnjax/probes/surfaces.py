"""The loss along lines and planes through a network's weights.

Li, Xu, Taylor, Studer and Goldstein, "Visualizing the Loss Landscape of Neural Nets", 2018 (arXiv
1712.09913), section 4: with BatchNorm or ReLU a network computes the same with other sizes of its weights, so
that a distance means nothing before it is measured in units of the weights. In their random directions each
filter has the norm of the network's own filter; biases and BatchNorm's parameters stay as they are.

The network is in evaluation mode, as in the paper: BatchNorm uses its running averages, which are those of
the trained weights. Far away they are stale; with `calibration` they are estimated anew at each point.
"""

import functools
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import Mesh, PartitionSpec

from cnnjax.errors import UserError
from cnnjax.network import Network, Variables
from cnnjax.network.base import path_names
from cnnjax.ops.depth import unstack
from cnnjax.probes.flow import Names
from cnnjax.probes.forward import function_of, reestimate
from cnnjax.probes.subject import Losses, as_subject, cross_entropy, mean_loss, unpack
from cnnjax.probes.trace import Trace, by_path


def filter_axes(model: Any, variables: Any, inputs: Any) -> dict[Names, tuple[int, ...]]:
    """For each layer's weight, by its path, the axes along which its filters lie.

    A filter is what one unit of the layer is computed from: an output channel of a convolution, a column of
    Flax's dense kernel, a row of Equinox's; of an embedding, an entry of the table. Layers are found in the
    network's trace, so it may be written in any library. A weight that is transposed or reshaped before its
    layer takes it has its filters along the one axis that is as long as there are units; if there is none,
    or more, it is one filter.

    Args:
        model: any network (`cnnjax.probes.subject`).
        variables: its parameters and running averages, by block or stacked; paths are by block.
        inputs: [sample, ...], of which only shapes and types matter.

    Raises:
        UserError: that is no network, or `variables` are not its own.
    """
    network, variables = as_subject(model, variables)
    variables = unstack(variables)
    params = variables["params"]
    trace = Trace(function_of(network, variables, inputs, "running"), params, inputs)
    shapes = {path: leaf.shape for path, leaf in by_path(params).items()}
    axes: dict[Names, tuple[int, ...]] = {}
    for weight, kernel, units in zip(trace.weights, trace.kernels, trace.units, strict=True):
        loops = len(weight.index)  # a slice of the parameter: a layer for each
        shape = shapes[weight.path][loops:]
        if kernel is not None and kernel.shape == shape:
            own = kernel.units
        else:
            own = tuple(axis for axis, size in enumerate(shape) if size == units)
            own = own if len(own) == 1 else ()
        axes.setdefault(weight.path, (*range(loops), *(loops + axis for axis in own)))
    return axes


def random_direction(model: Any, variables: Any, inputs: Any, key: jax.Array) -> Any:
    """A filter-normalised random direction, a tree like the parameters by block (Li et al., section 4).

    Each filter is normal, scaled to the norm of the network's own; all that is no layer's weight is 0.
    Arguments and errors are those of `filter_axes`.
    """
    axes = filter_axes(model, variables, inputs)
    params = unstack(as_subject(model, variables)[1])["params"]

    def draw(path: Any, number: int, leaf: jax.Array) -> jax.Array:
        names = path_names(path)
        if names not in axes:
            return jnp.zeros_like(leaf)
        normal = jax.random.normal(jax.random.fold_in(key, number), leaf.shape, leaf.dtype)
        others = tuple(axis for axis in range(leaf.ndim) if axis not in axes[names])
        norms = [jnp.sqrt(jnp.sum(x**2, others, keepdims=True)) for x in (leaf, normal)]
        return normal * norms[0] / norms[1]

    numbers = jax.tree.unflatten(jax.tree.structure(params), range(len(jax.tree.leaves(params))))
    return jax.tree_util.tree_map_with_path(draw, numbers, params)


def grid(*axes: Any) -> jax.Array:
    """Points [*number, direction] for `loss_surface`, from coordinates [number] along each direction."""
    return jnp.stack(jnp.meshgrid(*map(jnp.asarray, axes), indexing="ij"), -1)


def loss_surface(
    model: Any,
    variables: Any,
    batch: tuple[Any, Any],
    directions: Sequence[Any],
    points: Any,
    calibration: Any = None,
    losses: Losses = cross_entropy,
    at_once: int = 4,
    samples_at_once: int = 250,
    mesh: Mesh | None = None,
) -> jax.Array:
    """The mean loss [...] at `points` [..., direction], in one program.

    A point is the parameters plus the sum of its coordinates times the directions. For a square of a plane
    through the parameters: `loss_surface(model, variables, batch, (a, b), grid(axis, axis))`.

    Args:
        model: any network (`cnnjax.probes.subject`); it is in test mode.
        variables: its parameters and running averages, by block or stacked.
        batch: inputs [sample, ...] and labels [sample, ...].
        directions: trees like the parameters, by block; `random_direction` draws one.
        points: coordinates along each direction.
        calibration: training inputs [sample, ...] from which BatchNorm's averages are estimated at each
            point. None leaves them as trained.
        losses: the loss of each sample.
        at_once: points that are computed in parallel on each device.
        samples_at_once: samples that are; the memory is that of their product.
        mesh: devices, over all of which the points are divided.

    Raises:
        UserError: that is no network, or something does not fit it.
    """
    network, variables, batch = unpack(model, variables, batch)
    variables, directions = unstack(variables), tuple(unstack(tree) for tree in directions)
    points = jnp.asarray(points, jnp.result_type(float))
    _check(variables["params"], directions, points)

    def at_points(
        flat: jax.Array, variables: Variables, directions: Any, batch: Any, calibration: Any
    ) -> Any:
        def at(point: jax.Array) -> jax.Array:
            moved = {**variables, "params": _moved(variables["params"], directions, point)}
            return _loss(network, moved, batch, calibration, losses, samples_at_once)

        return lax.map(at, flat, batch_size=at_once)

    flat = points.reshape(-1, len(directions))
    shared = variables, directions, batch, calibration
    values = at_points(flat, *shared) if mesh is None else _divided(at_points, mesh, flat, *shared)
    return values.reshape(points.shape[:-1])


def _check(params: Any, directions: Sequence[Any], points: jax.Array) -> None:
    shapes = jax.tree.map(jnp.shape, params)
    if not directions or any(jax.tree.map(jnp.shape, tree) != shapes for tree in directions):
        raise UserError("directions: must be one tree or more with the parameters' own structure and shapes")
    if points.ndim == 0 or points.shape[-1] != len(directions):
        raise UserError(
            f"points: has shape {points.shape}; must be [..., direction], of {len(directions)} directions"
        )


def _moved(params: Any, directions: Sequence[Any], point: jax.Array) -> Any:
    def move(leaf: jax.Array, *along: jax.Array) -> jax.Array:
        steps = (coordinate * step for coordinate, step in zip(point, along, strict=True))
        return sum(steps, leaf).astype(jnp.result_type(leaf))

    return jax.tree.map(move, params, *directions)


def _loss(
    network: Network, variables: Variables, batch: Any, calibration: Any, losses: Losses, samples_at_once: int
) -> jax.Array:
    if calibration is not None:
        run = lambda function, params, inputs: function(params, inputs)  # noqa: E731
        variables = {**variables, **reestimate(network, variables, calibration, run)}
    function = functools.partial(function_of(network, variables, batch[0], "running"), variables["params"])
    return mean_loss(losses, function, batch, samples_at_once)


def _divided(function: Any, mesh: Mesh, flat: jax.Array, *shared: Any) -> jax.Array:
    """A function of points [point, direction] and of what all share, with the points divided over devices."""
    padding = -len(flat) % math.prod(mesh.shape.values())
    filled = jnp.concatenate([flat, jnp.broadcast_to(flat[-1:], (padding, flat.shape[1]))])
    everywhere = PartitionSpec(mesh.axis_names)
    divided = jax.shard_map(
        function,
        mesh=mesh,
        in_specs=(everywhere, *[PartitionSpec()] * len(shared)),
        out_specs=everywhere,
        check_vma=False,  # the check knows nothing of the primitives in ops/conv.py
    )
    return divided(filled, *shared)[: len(flat)]
