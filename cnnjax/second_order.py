"""Stochastic diagonal Levenberg-Marquardt, LeNet-5's optimizer, and the curvature that it needs.

LeCun, Bottou, Bengio and Haffner 1998, appendix C: each parameter w_k has a rate of its own,
rate / (damping + h_kk), where h_kk is the second derivative of the loss by w_k in the Gauss-Newton
approximation, a mean over some training samples. It is estimated before each pass and then kept.

The paper propagates h backward layer by layer, which besides drops what two units of a layer, and two
places of a shared weight, have in common. Here h is the exact diagonal of the Gauss-Newton matrix: it holds
for any network, and it can be checked. Where activations of neighbouring places agree it is larger than the
paper's, so shared weights take smaller steps.

The matrix depends on where the network ends and the loss begins. A network whose last part has no parameters
but a curvature, as LeNet-5's squared distances, says so by a method `readout`, which then is part of the
loss: by the distances themselves its criterion is nearly linear, by F6 it is quadratic.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from cnnjax.errors import UserError
from cnnjax.network import Network

Curvature = Callable[[Any, Any], Any]
"""A function of parameters and a sample's number to its Gauss-Newton diagonal, a tree like the parameters."""


class DiagonalState(NamedTuple):
    """What the optimizer carries: its updates so far, and h, a tree like the parameters."""

    count: jax.Array
    curvature: Any


def gauss_newton_diagonal(
    outputs: Callable[[Any], jax.Array], loss: Callable[[jax.Array], jax.Array], params: Any
) -> Any:
    """Compute the diagonal of J^T H J, a tree like `params`, for one sample.

    J is the Jacobian of the outputs [output] by the parameters and H the Hessian of the loss by the outputs.
    With a loss that is convex in the outputs, as the cross-entropy is, and LeNet-5's criterion by F6 too, no
    number is negative. That costs one backward pass for each output.
    """
    hessian = jax.hessian(loss)(outputs(params))

    def diagonal(rows: jax.Array) -> jax.Array:
        return jnp.sum(rows * jnp.tensordot(hessian, rows, 1), 0)

    return jax.tree.map(diagonal, jax.jacrev(outputs)(params))


def sample_curvature(
    examples: tuple[Any, Any],
    samples: int,
    what: str,
    *,
    network: Network,
    normalize: Callable[[Any], Any],
    loss: Callable[[Any, Any], jax.Array],
) -> Curvature:
    """Make the `Curvature` of so many examples, at equal distances in their order.

    Args:
        examples: raw inputs and labels [example, ...] in memory.
        samples: how many of them.
        what: what asks for it, for messages.
        network: as pure functions; without dropout. One with a method `readout`, from features [batch, ...]
            to outputs, sows its features in the collection "features".
        normalize: raw inputs of a batch to the network's.
        loss: of outputs and labels [batch, ...] to numbers [batch].

    Raises:
        UserError: the network carries more than parameters, such as BatchNorm's averages, or there are
            fewer examples.
    """
    count = len(jax.tree.leaves(examples)[0])
    if not 1 <= samples <= count:
        raise UserError(f"{what}: samples={samples}: must be from 1 to the {count} training examples")
    chosen = np.arange(samples) * count // samples
    inputs, labels = jax.tree.map(lambda leaf: np.asarray(leaf)[chosen], examples)
    shapes = jax.eval_shape(network.init, jax.random.key(0), jax.eval_shape(normalize, inputs))
    if carried := sorted(set(shapes) - {"params"}):
        raise UserError(f"{what}: is for networks of parameters alone; this one has {carried[0]} too")

    readout = getattr(network.source, "readout", None)

    def of_sample(params: Any, number: Any) -> Any:
        one, label = jax.tree.map(lambda leaf: jnp.asarray(leaf)[number][None], (inputs, labels))
        x = normalize(one)

        def features(params: Any) -> jax.Array:
            extra = ["features"] if readout else []
            outputs, new = network.apply({"params": params}, x, train=False, extra=extra)
            return jax.tree.leaves(new["features"])[0][0] if readout else outputs[0]

        def of_features(features: jax.Array) -> jax.Array:
            outputs = readout(features[None]) if readout else features[None]
            return loss(outputs, label)[0]

        return gauss_newton_diagonal(features, of_features, params)

    return of_sample


def diagonal_lm(
    learning_rate: Any,
    curvature: Callable[[int], Curvature],
    every: int,
    damping: float = 0.02,
    samples: int = 500,
) -> optax.GradientTransformation:
    """Make the transformation of a gradient g to -rate g / (damping + h), parameter by parameter.

    Args:
        learning_rate: a number or a schedule, the paper's global rate.
        curvature: from a number of samples to their `Curvature`.
        every: updates after which h is estimated again, in the paper those of one pass; the first time is
            before the first.
        damping: the paper's mu, which keeps rates finite where the loss is flat.
        samples: number of samples of which h is the mean.
    """
    of_sample = curvature(samples)

    def init(params: Any) -> DiagonalState:
        return DiagonalState(jnp.zeros((), jnp.int32), jax.tree.map(jnp.zeros_like, params))

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, DiagonalState]:
        due = state.count % every == 0
        # A loop of no turns costs nothing, also where runs are mapped and a `cond` would take both branches.
        total = jax.lax.fori_loop(
            0,
            jnp.where(due, samples, 0),
            lambda number, total: jax.tree.map(jnp.add, total, of_sample(params, number)),
            jax.tree.map(jnp.zeros_like, params),
        )
        h = jax.tree.map(lambda new, old: jnp.where(due, new / samples, old), total, state.curvature)
        rate: Any = learning_rate(state.count) if callable(learning_rate) else learning_rate
        updates = jax.tree.map(lambda g, h: (-rate / (damping + h) * g).astype(g.dtype), updates, h)
        return updates, DiagonalState(state.count + 1, h)

    return optax.GradientTransformation(init, update)
