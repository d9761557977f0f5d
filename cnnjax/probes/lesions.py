"""What a trained network does without some of its blocks, or with its blocks in another order.

Veit, Wilber and Belongie, "Residual Networks Behave Like Ensembles of Relatively Shallow Networks", 2016
(arXiv 1605.06431), section 4: nothing is trained again.

A block is what is added to a residual stream: without it, what comes along the shortcut goes on. In a plain
net the block's input takes the place of what it computes, every other pixel of it and padded with zeros where
shapes differ; in a highway network the gate is shut. Where blocks are nowhere joined or marked, as in VGG,
each layer counts as one, with its normalisation but not its activation. All is found in the network's trace
(`cnnjax.probes.trace`), so it may be written in any library.

BatchNorm's running averages are those of the whole network. A lesioned one has other statistics, so part of
the damage is that its averages are stale; it is gone when they are estimated again from training inputs.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from jax import lax

from cnnjax.errors import UserError
from cnnjax.network import Network, Variables
from cnnjax.network.base import at
from cnnjax.ops.depth import unstack
from cnnjax.probes.forward import Function, function_of, reestimate
from cnnjax.probes.subject import Losses, as_subject, mean_loss, unpack
from cnnjax.probes.taps import gate_branch
from cnnjax.probes.trace import Trace


def wrong(outputs: jax.Array, labels: jax.Array) -> jax.Array:
    """1 where the largest output [sample, class] is not the label's, else 0."""
    return (outputs.argmax(-1) != labels).astype(jnp.float32)


@struct.dataclass
class Lesions:
    """A network's error, once for each lesion.

    Attributes:
        error: [lesion], mean over the samples.
        changed: [lesion, block]: how far each block is open, or which block stands in its place.
        blocks: names, in order.
    """

    error: jax.Array
    changed: jax.Array
    blocks: tuple[str, ...] = struct.field(pytree_node=False)


def find_blocks(model: Any, variables: Any, inputs: Any) -> tuple[str, ...]:
    """Names of the blocks that `lesion` can delete, in order.

    Args:
        model: any network (`cnnjax.probes.subject`).
        variables: its parameters and running averages, by block or stacked.
        inputs: [sample, ...], of which only shapes and types matter.

    Raises:
        UserError: there are none.
    """
    network, variables = as_subject(model, variables)
    return _trace(function_of(network, variables, inputs, "running"), variables["params"], inputs).blocks


def lesion(
    model: Any,
    variables: Any,
    batch: tuple[Any, Any],
    opened: Any = None,
    calibration: Any = None,
    losses: Losses = wrong,
    at_once: int = 4,
    samples_at_once: int = 250,
) -> Lesions:
    """The error without some of the blocks, for many choices of them in one program.

    Args:
        model: any network (`cnnjax.probes.subject`); it is in test mode.
        variables: its parameters and running averages, by block or stacked.
        batch: test inputs [sample, ...] and labels [sample, ...].
        opened: [lesion, block]: 1 for a block that stays, 0 for one that is deleted. By default the whole
            network, then each block alone deleted.
        calibration: training inputs [sample, ...]; BatchNorm's averages are estimated from these for each
            lesion. None leaves them as trained, as Veit et al. do.
        losses: the error of each sample; by default whether its class is wrong.
        at_once: lesions that are computed in parallel.
        samples_at_once: test samples that are; the memory is that of their product.

    Raises:
        UserError: that is no network, it has no blocks, or something does not fit it.
    """
    network, variables, (inputs, labels) = unpack(model, variables, batch)
    blocks = find_blocks(network, variables, inputs)
    if opened is None:
        opened = jnp.concatenate([jnp.ones((1, len(blocks))), 1 - jnp.eye(len(blocks))])
    opened = _per_block("opened", opened, blocks).astype(jnp.result_type(float))

    def error(gates: jax.Array) -> jax.Array:
        return _error(network, variables, (inputs, labels), gates, calibration, losses, samples_at_once)

    return Lesions(lax.map(error, opened, batch_size=at_once), opened, blocks)


def reorder(
    model: Any,
    variables: Any,
    batch: tuple[Any, Any],
    orders: Any,
    calibration: Any = None,
    losses: Losses = wrong,
    samples_at_once: int = 250,
) -> Lesions:
    """The error with blocks of equal shape in another order, for many orders in one program.

    `orders` [lesion, block] has at each place the number of the block that is to stand there, one of its
    group (`equal_blocks`). Other arguments and errors are those of `lesion`.
    """
    network, variables, (inputs, labels) = unpack(model, variables, batch)
    variables = unstack(variables)
    blocks = find_blocks(network, variables, inputs)
    orders, groups = _per_block("orders", orders, blocks), equal_blocks(variables, blocks)

    def error(order: jax.Array) -> jax.Array:
        moved = {name: _moved(tree, blocks, groups, order) for name, tree in variables.items()}
        whole = jnp.ones(len(blocks))
        return _error(network, moved, (inputs, labels), whole, calibration, losses, samples_at_once)

    return Lesions(lax.map(error, orders), orders, blocks)


def equal_blocks(variables: Variables, blocks: Sequence[str]) -> list[list[int]]:
    """Numbers of the blocks whose parameters have the same shapes; a list for each shape that comes twice.

    `variables` are by block. A block that has no entry of its own in the tree of parameters is in no list.
    """
    kinds: dict[Any, list[int]] = {}
    for number, name in enumerate(blocks):
        try:
            entry = at(variables["params"], tuple(name.split("/")))
        except (KeyError, TypeError):
            continue
        kind = jax.tree.structure(entry), *(jnp.shape(leaf) for leaf in jax.tree.leaves(entry))
        kinds.setdefault(kind, []).append(number)
    return [group for group in kinds.values() if len(group) > 1]


def _moved(tree: Any, blocks: Sequence[str], groups: list[list[int]], order: jax.Array) -> Any:
    """The variables with each block's entry replaced by that of the block `order` [block] puts there."""
    for group in groups:
        paths = [tuple(blocks[number].split("/")) for number in group]
        try:
            entries = [at(tree, path) for path in paths]
        except (KeyError, TypeError):
            continue  # a collection that has nothing of these blocks
        stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *entries)
        places = jnp.searchsorted(jnp.array(group), order[jnp.array(group)])
        for path, place in zip(paths, places, strict=True):
            moved = jax.tree.map(lambda leaf, place=place: leaf[place], stacked)
            tree = _with_entry(tree, path, moved)
    return tree


def _with_entry(tree: Any, path: tuple[str, ...], entry: Any) -> Any:
    if not path:
        return entry
    return {**tree, path[0]: _with_entry(tree[path[0]], path[1:], entry)}


def _error(
    network: Network,
    variables: Variables,
    batch: tuple[Any, Any],
    gates: jax.Array,
    calibration: Any,
    losses: Losses,
    samples_at_once: int,
) -> jax.Array:
    """Mean of the losses with blocks open as far as `gates` [block] says."""
    params = variables["params"]

    def run(function: Function, params: Any, inputs: Any) -> Any:
        trace = _trace(function, params, inputs)
        return trace.run(params, inputs, trace.gates(gates))[0]

    if calibration is not None:
        variables = {**variables, **reestimate(network, variables, calibration, run)}
    function = function_of(network, variables, batch[0], "running")

    return mean_loss(losses, lambda inputs: run(function, params, inputs), batch, samples_at_once)


def _trace(function: Function, params: Any, inputs: Any) -> Trace:
    trace = Trace(function, params, inputs, at_join=gate_branch, layers_are_blocks=True)
    if not trace.blocks:
        raise UserError("the network has no blocks: no residual additions, and no two layers in a row")
    return trace


def _per_block(name: str, values: Any, blocks: Sequence[str]) -> jax.Array:
    values = jnp.asarray(values)
    if values.ndim != 2 or values.shape[1] != len(blocks):
        raise UserError(f"{name}: has shape {values.shape}; must be [lesion, block], of {len(blocks)} blocks")
    return values
