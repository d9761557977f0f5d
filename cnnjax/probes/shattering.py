"""How alike the gradients at different inputs are: from brown noise, smooth, to white noise, shattered.

Balduzzi et al. 2017 (arXiv 1702.08591). Gradients come as arrays with an axis over inputs; where they come
from does not matter here.
"""

import functools

import jax
import jax.numpy as jnp

from cnnjax.probes import decompositions

LAGS = 15


@functools.partial(jax.jit, static_argnames="lags")
def autocorrelation(gradients: jax.Array, lags: int = LAGS) -> jax.Array:
    """[..., point] to [..., lag 0 ... lags], each series by itself: its mean removed, lag 0 is 1.

    The estimator is the biased one (every lag is divided by the number of points), so for white noise of n
    points it is -1 / n on average.
    """
    x = gradients - gradients.mean(-1, keepdims=True)
    points = x.shape[-1]
    lagged = [jnp.sum(x[..., : points - lag] * x[..., lag:], -1) for lag in range(lags + 1)]
    return jnp.stack(lagged, -1) / lagged[0][..., None]


def covariance(gradients: jax.Array) -> jax.Array:
    """C(i, j) = E[g_i g_j], [input, input], of gradients [..., input, coordinate] with mean 0.

    The expectation is over weights: over the coordinates (neurons) and all leading axes (nets).
    """
    flat = gradients.reshape(-1, *gradients.shape[-2:])
    return jnp.einsum("nic,njc->ij", flat, flat) / (flat.shape[0] * flat.shape[2])


def correlation(gradients: jax.Array) -> jax.Array:
    """R(i, j) = C(i, j) / sqrt(C(i, i) C(j, j)), [input, input], of gradients as in `covariance`."""
    c = covariance(gradients)
    std = jnp.sqrt(jnp.diagonal(c))
    return c / (std[:, None] * std[None, :])


def mean_over_pairs(matrix: jax.Array) -> jax.Array:
    """Mean of a square matrix off its diagonal."""
    n = len(matrix)
    return (matrix.sum() - jnp.trace(matrix)) / (n * (n - 1))


def mean_cosine(gradients: jax.Array) -> jax.Array:
    """Mean cosine between the gradients [input, coordinate] of different inputs."""
    return mean_over_pairs(correlation(gradients))


def effective_rank(matrix: jax.Array) -> jax.Array:
    """|A|_F^2 / |A|_2^2 of [row, column]: from 1, all rows parallel, to the rank, all orthogonal."""
    gram = matrix @ matrix.T if matrix.shape[0] <= matrix.shape[1] else matrix.T @ matrix
    return effective_rank_of_gram(gram)


def effective_rank_of_gram(gram: jax.Array) -> jax.Array:
    """The same of A from A A^T or A^T A."""
    return jnp.trace(gram) / decompositions.eigenvalues(gram)[-1]


def white_noise(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Independent normal numbers."""
    return jax.random.normal(key, shape)


def brown_noise(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Brownian motion along the last axis: sums of normal steps of variance 1 / points."""
    return jnp.cumsum(white_noise(key, shape), -1) / jnp.sqrt(shape[-1])
