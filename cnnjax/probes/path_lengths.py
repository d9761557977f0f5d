"""The gradient of a residual network by the lengths of the paths that it comes along.

Veit, Wilber and Belongie, "Residual Networks Behave Like Ensembles of Relatively Shallow Networks", 2016
(arXiv 1605.06431), sections 3 and 5. A network of n residual blocks is 2^n paths: each block is passed along
its branch or along its shortcut. The length of a path is the number of its branches, and n choose k paths
have length k. On the way back the gradient is a sum over all paths.

Exactly: let the gradient that comes back through a branch be multiplied by a variable z. What arrives at the
input is then a polynomial in z, and its coefficient of z^k is what all paths of length k bring together.
Coefficients are an axis of the gradient, and z moves them on by one. So all come out of one backward pass of
n + 1 times the size, and they add up to the gradient.

By sampling, as Veit et al. did: the norm of the gradient along one random path of length k, times the number
of such paths. That is what they would bring together if all had the same direction.
"""

from collections.abc import Callable
from math import comb
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax import lax

from cnnjax.errors import UserError
from cnnjax.probes.forward import function_of
from cnnjax.probes.found import AtJoin
from cnnjax.probes.subject import Losses, cross_entropy, losses_of, unpack
from cnnjax.probes.taps import gate
from cnnjax.probes.trace import Trace

AXIS = "length"


@struct.dataclass
class PathLengths:
    """Norms of each sample's gradient of the loss by its input, by the length of paths, 0 to n.

    Attributes:
        exact: [length, sample], of what all paths of a length bring together.
        single: [length, sample], mean over random paths of that of one path.
        full: [sample], of the whole gradient.
        gap: [sample], of the difference between it and the sum over all lengths, relative to it.
        blocks: names of the n blocks, in order.
    """

    exact: jax.Array
    single: jax.Array
    full: jax.Array
    gap: jax.Array
    blocks: tuple[str, ...] = struct.field(pytree_node=False)


def path_lengths(
    model: Any,
    variables: Any,
    batch: tuple[jax.Array, jax.Array],
    key: jax.Array,
    draws: int = 16,
    statistics: str = "frozen",
    losses: Losses = cross_entropy,
    at_once: int = 8,
) -> PathLengths:
    """The gradient of each sample's loss by its input, exactly and by sampling, by the length of paths.

    Args:
        model: any network (`cnnjax.probes.subject`) with residual blocks.
        variables: its parameters and running averages, by block or stacked.
        batch: inputs [sample, ...] of floats and labels [sample].
        key: for the random paths.
        draws: of paths of each length.
        statistics: BatchNorm's, "frozen" (constants, those of the batch) or "running"; with "batch", which
            move with the inputs, a sample's gradient would also come along other samples.
        losses: what is differentiated.
        at_once: random paths that are differentiated in parallel.

    Raises:
        UserError: it has no residual blocks, or there are no such statistics.
    """
    exact = gradients_by_length(model, variables, batch, statistics, losses)
    trace, total = _traced(model, variables, batch, statistics, losses, _one_way)
    paths = random_paths(key, len(trace.blocks), draws).reshape(-1, len(trace.blocks))
    inputs = jnp.asarray(batch[0])
    along = jax.grad(total, 1)
    single = lax.map(lambda path: _norms(along(path, inputs)), paths, batch_size=at_once)
    whole = along(None, inputs)
    full = _norms(whole)
    return PathLengths(
        exact=jax.vmap(_norms)(exact),
        single=single.reshape(len(exact), draws, -1).mean(1),
        full=full,
        gap=_norms(exact.sum(0) - whole) / jnp.where(full > 0, full, 1),
        blocks=trace.blocks,
    )


def gradients_by_length(
    model: Any,
    variables: Any,
    batch: tuple[jax.Array, jax.Array],
    statistics: str = "frozen",
    losses: Losses = cross_entropy,
) -> jax.Array:
    """What the paths of each length bring to each sample's gradient by its input: [length, sample, ...].

    Arguments and errors are those of `path_lengths`.
    """
    trace, total = _traced(model, variables, batch, statistics, losses, _move_on)
    ones = jnp.ones(len(trace.blocks))
    _, pull = jax.vjp(lambda x: total(ones, x), jnp.asarray(batch[0]))
    seeds = jnp.zeros(1 + len(ones), jnp.result_type(batch[0])).at[0].set(1)
    return jax.vmap(lambda seed: pull(seed)[0], axis_name=AXIS)(seeds)


def _traced(
    model: Any, variables: Any, batch: Any, statistics: str, losses: Losses, at_join: AtJoin
) -> tuple[Trace, Callable[[Any, jax.Array], jax.Array]]:
    """The network's trace, and the sum of the losses from a number for each block, or None, and inputs."""
    if statistics not in ("frozen", "running"):
        raise UserError(f"statistics={statistics!r}: must be frozen or running, for gradients along paths")
    network, variables, (inputs, labels) = unpack(model, variables, batch)
    params, function = variables["params"], function_of(network, variables, inputs, statistics)
    trace = Trace(function, params, inputs, at_join=at_join)
    if not any(trace.shortcuts):
        raise UserError("the network has no residual blocks; mark them by cnnjax.probes.marks.join")

    def total(gates: Any, x: jax.Array) -> jax.Array:
        taps = None if gates is None else trace.gates(gates)
        return losses_of(losses, trace.run(params, x, taps)[0], labels).sum()

    return trace, total


def random_paths(key: jax.Array, blocks: int, draws: int) -> jax.Array:
    """Paths of each length, [length, draw, block]: 1 where it takes the branch, 0 the shortcut."""
    keys = jax.random.split(key, draws)
    ranks = jax.vmap(lambda key: jax.random.permutation(key, blocks))(keys)
    return (ranks < jnp.arange(blocks + 1)[:, None, None]).astype(jnp.result_type(float))


def distribution(norms: Any, single: bool = False) -> np.ndarray:
    """Share of each length in the gradient, [length], from `exact` norms or those of a `single` path.

    The norm of one path counts as often as there are paths of its length, n choose k. Samples without a
    gradient count for nothing.
    """
    norms = np.asarray(norms, np.float64)
    norms = norms[:, norms.sum(0) > 0]
    shares = (norms / norms.sum(0)).mean(1) if not single else norms.mean(1) * binomial(len(norms) - 1)
    return shares / shares.sum()


def binomial(blocks: int) -> np.ndarray:
    """Share of the paths of each length among all, [length]."""
    return np.array([comb(blocks, length) / 2**blocks for length in range(blocks + 1)])


@jax.custom_vjp
def _times_z(x: jax.Array) -> jax.Array:
    """x; the coefficients of what comes back are those of the next power."""
    return x


def _next_power(_: None, g: jax.Array) -> tuple[jax.Array]:
    lengths = lax.axis_size(AXIS)  # no path is longer, so what comes round is 0
    return (lax.ppermute(g, AXIS, [(power, (power + 1) % lengths) for power in range(lengths)]),)


_times_z.defvjp(lambda x: (x, None), _next_power)


def _move_on(_: Any, stream: Any, branch: Any, absent: Callable[[], Any]) -> tuple[Any, Any]:
    return stream, _times_z(branch)


def _one_way(branched: jax.Array, stream: Any, branch: Any, absent: Callable[[], Any]) -> tuple[Any, Any]:
    return gate(stream, 1 - branched), gate(branch, branched)


def _norms(gradients: jax.Array) -> jax.Array:
    """Of each sample's gradient, [sample]."""
    return jnp.sqrt(jnp.square(gradients).reshape(len(gradients), -1).sum(1))
