"""The instruments that need passes of their own: single samples, curvature, skipped blocks, mixing."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from cnnjax.network import Network, Variables
from cnnjax.probes import curvature
from cnnjax.probes.forward import in_training
from cnnjax.probes.samples import SampleStatistics, gram, input_gradients, measure, sample_statistics
from cnnjax.probes.subject import Losses
from cnnjax.probes.taps import norm_of
from cnnjax.probes.theory import gaussian_effective_rank
from cnnjax.probes.trace import Trace, by_path

Batch = tuple[Any, Any]


@struct.dataclass
class OfSamples:
    """What gradients of single samples tell; see `cnnjax.probes.SampleStatistics`."""

    by_weights: SampleStatistics
    """[layer + 1]: of each layer's weight, and of all parameters."""
    by_inputs: SampleStatistics
    """Of the input; scalars."""


def of_samples(network: Network, variables: Variables, batch: Batch, loss: Losses) -> OfSamples:
    """Shattering, and signal against noise; BatchNorm's statistics are constants ("frozen")."""
    gradients = input_gradients(network, variables, batch, losses=loss)
    by_inputs = gradients.reshape(len(gradients), -1)
    return OfSamples(
        by_weights=sample_statistics(network, variables, batch, losses=loss),
        by_inputs=measure(gram(by_inputs), gaussian_effective_rank(*by_inputs.shape)),
    )


def sharpness(network: Network, variables: Variables, batch: Batch, loss: Losses) -> jax.Array:
    """The largest eigenvalue of the loss's Gauss-Newton matrix: 8 steps of Lanczos, so from below.

    Gradient descent on that quadratic model diverges from a rate of 2 / sharpness on. The Hessian itself has
    large negative eigenvalues at initialisation, which say nothing of that.
    """
    product, size = curvature.ggn_product(network, variables, batch, loss=loss)
    return curvature.top_eigenvalue(product, size, jax.random.key(0), steps=8)


def skips(network: Network, variables: Variables, batch: Batch, key: jax.Array, loss: Losses) -> jax.Array:
    """The first layer's gradient when the backward pass takes each block for the identity: [block].

    Norms of the weight's gradient relative to that of the whole backward pass; the forward pass is the same.
    """
    inputs, labels = batch
    params = variables["params"]
    trace = Trace(in_training(network, variables, key), params, inputs)
    path = trace.weights[0].path

    def of_first(joins: jax.Array) -> jax.Array:
        def objective(params: Any) -> jax.Array:
            (outputs, _), _ = trace.run(params, inputs, trace.taps(joins))
            return loss(outputs, labels).mean()

        return norm_of(by_path(jax.grad(objective)(params))[path])

    blocks = len(trace.blocks)
    whole = of_first(jnp.ones(blocks))
    return jax.lax.map(of_first, 1.0 - jnp.eye(blocks)) / whole


def depends_on_others(network: Network, variables: Variables, inputs: Any) -> jax.Array:
    """Whether in evaluation the first sample's output moves with the other samples."""

    def first(inputs: Any) -> Any:
        outputs = network.apply(variables, inputs, train=False)[0]
        return jax.tree.map(lambda leaf: leaf[0], outputs)

    def others(leaf: jax.Array) -> jax.Array:
        changed = -0.5 * leaf if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf.max() - leaf
        return jnp.concatenate([leaf[:1], changed[1:].astype(leaf.dtype)])

    before, after = first(inputs), first(jax.tree.map(others, inputs))
    moved = jax.tree.leaves(jax.tree.map(lambda a, b: jnp.max(jnp.abs(a - b)), before, after))
    size = jax.tree.leaves(jax.tree.map(lambda a: jnp.max(jnp.abs(a)), before))
    return jnp.max(jnp.stack(moved)) > 1e-4 * (jnp.max(jnp.stack(size)) + 1e-30)
