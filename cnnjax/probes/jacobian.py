"""How a network's output moves with its input: singular values, and one number for how far from linear it is.

`statistics` is BatchNorm's mode (`cnnjax.probes.forward`), "frozen" or "running": in both a sample's logits
depend on its own image alone, and the Jacobian is that of one sample.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from cnnjax.errors import UserError
from cnnjax.probes.forward import Network, network


def singular_values(
    model: nn.Module, variables: Any, images: jax.Array, statistics: str = "frozen"
) -> jax.Array:
    """Of the logits' Jacobian by the image, falling: [sample, class], from [sample, height, width, channel].

    It takes a backward pass for each class, sample after sample.

    Raises:
        UserError: `statistics` is not "frozen" or "running"; or it is "frozen" and there is a
            `bn_group_size`.
    """
    function, params = _of_one(model, variables, images, statistics), variables["params"]

    def of_one(image: jax.Array) -> jax.Array:
        logits, pull = jax.vjp(lambda x: function(params, x[None])[0], image)
        rows = jax.lax.map(
            lambda upstream: pull(upstream)[0].ravel(), jnp.eye(len(logits), dtype=logits.dtype)
        )
        return jnp.linalg.svd(rows, compute_uv=False)

    return jax.lax.map(of_one, images)


def nonlinearity_coefficient(
    model: nn.Module, variables: Any, images: jax.Array, statistics: str = "frozen"
) -> jax.Array:
    """sqrt(E_x tr(J Cov_x J^T) / tr Cov_f): 1 for linear nets (Philipp and Carbonell 2018, arXiv 1806.00179).

    J is the logits' Jacobian at an image x; the covariances are those of the images [sample, height, width,
    channel] and of their logits. The sum over all pairs of samples is taken exactly, in as many forward-mode
    passes of the batch as it has samples. The paper finds that nets with 1 to 5 at initialisation train well.

    Raises:
        UserError: `statistics` is not "frozen" or "running"; or it is "frozen" and there is a
            `bn_group_size`.
    """
    function, params = _of_one(model, variables, images, statistics), variables["params"]
    centered = images - images.mean(0)

    def moved(shift: jax.Array) -> jax.Array:
        """Mean of |J(x_i) (x_(i + shift) - mean)|^2 over i."""
        tangents = jnp.roll(centered, -shift, 0)
        _, moves = jax.jvp(lambda x: function(params, x), (images,), (tangents,))
        return jnp.square(moves).sum(1).mean()

    logits = function(params, images)
    total = jax.lax.map(moved, jnp.arange(len(images))).mean()
    return jnp.sqrt(total / jnp.square(logits - logits.mean(0)).sum(1).mean())


def _of_one(model: nn.Module, variables: Any, images: jax.Array, statistics: str) -> Network:
    if statistics not in ("frozen", "running"):
        raise UserError(
            f"statistics={statistics!r}: must be frozen or running, for the Jacobian of one sample"
        )
    return network(model, variables, images, statistics)
