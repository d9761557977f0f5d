"""How a network's output moves with its input: singular values, and one number for how far from linear it is.

`statistics` is BatchNorm's mode (`cnnjax.probes.forward`), "frozen" or "running": in both a sample's logits
depend on its own image alone, and the Jacobian is that of one sample.
"""

from typing import Any

import jax
import jax.numpy as jnp

from cnnjax.errors import UserError
from cnnjax.probes import decompositions
from cnnjax.probes.forward import Function, function_of
from cnnjax.probes.subject import as_subject


def singular_values(model: Any, variables: Any, images: jax.Array, statistics: str = "frozen") -> jax.Array:
    """Of the outputs' Jacobian by the image, falling: [sample, output], from images [sample, ...].

    It takes a backward pass of the batch for each output; samples do not depend on each other.

    Raises:
        UserError: `statistics` is not "frozen" or "running"; or it is "frozen" and there is a
            `bn_group_size`.
    """
    function, params = _of_one(model, variables, images, statistics)
    outputs, pull = jax.vjp(lambda images: function(params, images), images)

    def row(upstream: jax.Array) -> jax.Array:
        (gradient,) = pull(jnp.broadcast_to(upstream, outputs.shape))
        return gradient.reshape(len(gradient), -1)

    rows = jax.lax.map(row, jnp.eye(outputs.shape[1], dtype=outputs.dtype))
    return jax.vmap(decompositions.singular_values)(rows.swapaxes(0, 1))


def nonlinearity_coefficient(
    model: Any, variables: Any, images: jax.Array, statistics: str = "frozen"
) -> jax.Array:
    """sqrt(E_x tr(J Cov_x J^T) / tr Cov_f): 1 for linear nets (Philipp and Carbonell 2018, arXiv 1806.00179).

    J is the logits' Jacobian at an image x; the covariances are those of the images [sample, height, width,
    channel] and of their logits. The sum over all pairs of samples is taken exactly, in as many forward-mode
    passes of the batch as it has samples. The paper finds that nets with 1 to 5 at initialisation train well.

    Raises:
        UserError: `statistics` is not "frozen" or "running"; or it is "frozen" and there is a
            `bn_group_size`.
    """
    function, params = _of_one(model, variables, images, statistics)
    centered = images - images.mean(0)

    def moved(shift: jax.Array) -> jax.Array:
        """Mean of |J(x_i) (x_(i + shift) - mean)|^2 over i."""
        tangents = jnp.roll(centered, -shift, 0)
        _, moves = jax.jvp(lambda x: function(params, x), (images,), (tangents,))
        return jnp.square(moves).sum(1).mean()

    logits = function(params, images)
    total = jax.lax.map(moved, jnp.arange(len(images))).mean()
    return jnp.sqrt(total / jnp.square(logits - logits.mean(0)).sum(1).mean())


def _of_one(model: Any, variables: Any, images: jax.Array, statistics: str) -> tuple[Function, Any]:
    """The network as a function of (parameters, images) to outputs [sample, output], and its parameters."""
    if statistics not in ("frozen", "running"):
        raise UserError(
            f"statistics={statistics!r}: must be frozen or running, for the Jacobian of one sample"
        )
    network, variables = as_subject(model, variables)
    function = function_of(network, variables, images, statistics)
    return lambda params, images: function(params, images).reshape(len(images), -1), variables["params"]
