"""Transformations of gradients and updates layer by layer, which optax does not have.

Arrays stacked over depth hold the parameters of several layers; each counts by itself.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from cnnjax.ops.depth import is_stacked


def clip_by_layer(max_norm: float) -> optax.GradientTransformation:
    """Scale down the gradient of each parameter whose norm is above `max_norm`, to that norm.

    `optax.clip_by_global_norm` takes the norm of all gradients together: where the first layer's is a
    thousand times the last's, as in a deep plain net with BatchNorm, it takes the same factor off both.
    """

    def clipped(path: Any, gradient: jax.Array) -> jax.Array:
        norm = _norms(path, gradient)
        return gradient * jnp.minimum(1, max_norm / jnp.maximum(norm, jnp.finfo(norm.dtype).tiny))

    return optax.stateless(lambda updates, _: jax.tree.map_with_path(clipped, updates))


def limit_filters(max_rms: float, chosen: Callable[[Any, Any], bool]) -> optax.GradientTransformation:
    """Change updates so that no filter's RMS exceeds `max_rms` after a step; larger ones are scaled to it.

    A filter is the weights [k, k, c_in] that make one of a convolution's c_out maps (Zeiler and Fergus 2013,
    section 3.1: 0.1).

    Args:
        max_rms: root of a filter's mean square.
        chosen: of a parameter's path in the tree and its value [..., k, k, c_in, c_out]: whether it is one.
    """

    def limited(path: Any, update: jax.Array, w: jax.Array) -> jax.Array:
        if not chosen(path, w):
            return update
        moved = w + update
        rms = jnp.sqrt(jnp.mean(jnp.square(moved), (-4, -3, -2), keepdims=True))
        return jnp.where(rms > max_rms, moved * (max_rms / rms) - w, update)

    return optax.stateless(lambda updates, params: jax.tree.map_with_path(limited, updates, params))


def keep_norms(chosen: Callable[[Any, Any], bool]) -> optax.GradientTransformation:
    """Change updates so that each chosen parameter is brought back to its initial norm after each step.

    The update u of w becomes w' - w with w' = (w + u) |w_0| / |w + u|: a step, then a projection onto the
    sphere of radius |w_0|. Before a normalisation the norm of a kernel changes no output, but its gradient
    goes with 1 / |w|: a kernel that one large gradient has blown up hardly turns any more (van Laarhoven
    2017, arXiv 1706.05350). A parameter that starts at 0 is left as it is.

    Args:
        chosen: of a parameter's path in the tree and its value.
    """

    def initial_norms(params: Any) -> Any:
        return jax.tree.map_with_path(
            lambda path, w: jnp.squeeze(_norms(path, w), range(-_own_axes(path, w), 0)), params
        )

    def projected(path: Any, update: jax.Array, w: jax.Array, radius: jax.Array) -> jax.Array:
        if not chosen(path, w):
            return update
        moved = w + update
        norm = _norms(path, moved)
        radius = radius.reshape(norm.shape)
        return jnp.where((radius > 0) & (norm > 0), moved * (radius / norm) - w, update)

    def project(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        return jax.tree.map_with_path(projected, updates, params, state), state

    return optax.GradientTransformation(initial_norms, project)


def _own_axes(path: Any, w: jax.Array) -> int:
    """The number of axes of one layer's parameter."""
    return w.ndim - is_stacked(path)


def _norms(path: Any, w: jax.Array) -> jax.Array:
    """The norm of each layer's part, with axes of size 1 in place of its own."""
    axes = tuple(range(w.ndim - _own_axes(path, w), w.ndim))
    return jnp.sqrt(jnp.sum(jnp.square(w), axes, keepdims=True))
