"""The Hessian of a loss without forming it: its largest eigenvalue, trace and spectral density.

A product with the Hessian is the gradient of <gradient, v>, reverse mode over reverse mode. Lanczos
re-orthogonalises in full, without which float32 finds the same eigenvalues again and again (Ghorbani,
Krishnan and Xiao 2019, arXiv 1901.10159), so it keeps a vector of all parameters for each step. All functions
are pure, for `jit`.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from jax import lax
from jax.flatten_util import ravel_pytree

from cnnjax.probes.checks import unpack
from cnnjax.probes.forward import network

Product = Callable[[jax.Array], jax.Array]
"""v [parameter] to H v [parameter]."""


def batch_loss(
    model: nn.Module, variables: Any, batch: tuple[jax.Array, jax.Array], statistics: str = "batch"
) -> Callable[[Any], jax.Array]:
    """Mean cross-entropy of images and labels [sample] as a function of the parameters.

    `statistics` says what BatchNorm does (`cnnjax.probes.forward`): "batch" gives the curvature of the loss
    that is trained, "running" that of the network in evaluation, which most tools report without a word.

    Raises:
        UserError: there are no such statistics; or they are not "running" and there is a
            `bn_group_size` (for "batch" the function raises it).
    """
    images, labels = unpack(model, variables, batch)
    function = network(model, variables, images, statistics)

    def loss(params: Any) -> jax.Array:
        return optax.softmax_cross_entropy_with_integer_labels(function(params, images), labels).mean()

    return loss


def hessian_product(loss: Callable[[Any], jax.Array], params: Any) -> tuple[Product, int]:
    """A function of v [parameter] to H v, H the Hessian of `loss` at `params`; and the number of parameters.

    The parameters are in the order of `jax.flatten_util.ravel_pytree`.
    """
    flat, unravel = ravel_pytree(params)

    def product(v: jax.Array) -> jax.Array:
        return jax.grad(lambda x: jax.grad(lambda y: loss(unravel(y)))(x) @ v)(flat)

    return product, flat.size


def lanczos(product: Product, start: jax.Array, steps: int) -> tuple[jax.Array, jax.Array]:
    """The symmetric operator's spectrum as `start` [parameter] sees it: values and weights [step], rising.

    Each weight is the square of an approximate eigenvector's component along `start`. They sum to 1, and
    sum(weight * f(value)) is Gauss quadrature of <start, f(H) start> / <start, start>. The outermost values
    converge first, from inside. After as many steps as there are distinct eigenvalues nothing is left to
    find, and further values have the weight 0.
    """
    steps = min(steps, start.size)

    def step(carry, index):
        basis, v, last, beta = carry
        basis = basis.at[index].set(v)
        w = product(v)
        alpha = w @ v
        w = w - alpha * v - beta * last
        for _ in range(2):  # once leaves rounding errors behind
            w = w - basis.T @ (basis @ w)
        beta = jnp.linalg.norm(w)
        return (basis, w / jnp.where(beta > 0, beta, 1), v, beta), (alpha, beta)

    v = start / jnp.linalg.norm(start)
    carry = (jnp.zeros((steps, start.size), v.dtype), v, jnp.zeros_like(v), jnp.zeros((), v.dtype))
    _, (alphas, betas) = lax.scan(step, carry, jnp.arange(steps))
    values, vectors = jnp.linalg.eigh(jnp.diag(alphas) + jnp.diag(betas[:-1], 1) + jnp.diag(betas[:-1], -1))
    return values, vectors[0] ** 2


def top_eigenvalue(product: Product, size: int, key: jax.Array, steps: int = 30) -> jax.Array:
    """The largest eigenvalue, from below: `steps` of Lanczos from a random vector."""
    return lanczos(product, jax.random.normal(key, (size,)), steps)[0][-1]


def trace(product: Product, size: int, key: jax.Array, draws: int = 32) -> tuple[jax.Array, jax.Array]:
    """The trace as the mean of <v, H v> over random signs v, and its standard error (Hutchinson)."""
    signs = jax.random.rademacher(key, (draws, size), float)
    values = lax.map(lambda v: v @ product(v), signs)
    return values.mean(), values.std(ddof=1) / draws**0.5


def spectrum(
    product: Product, size: int, key: jax.Array, steps: int = 80, draws: int = 4
) -> tuple[jax.Array, jax.Array]:
    """Values and weights [draw, step] by stochastic Lanczos quadrature: every draw has weights that sum to 1.

    The mean of sum(weight * f(value)) over draws estimates the mean of f over all eigenvalues.
    """
    starts = jax.random.normal(key, (draws, size))
    return lax.map(lambda start: lanczos(product, start, steps), starts)


def density(values: jax.Array, weights: jax.Array, at: jax.Array, width: float) -> jax.Array:
    """The spectral density [point] at these points: `spectrum` smoothed by a normal kernel of std `width`."""
    kernels = jax.scipy.stats.norm.pdf(at[:, None, None], values, width)
    return (weights * kernels).sum(-1).mean(-1)
