"""Identities with a say in the gradient: taps tell its norm, gates multiply it. And what replaces a block."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from cnnjax.ops.precision import wide


@jax.custom_vjp
def tap(x: jax.Array, norm: jax.Array) -> jax.Array:
    """x; the gradient by `norm` is the Euclidean norm of that by x."""
    return x


tap.defvjp(lambda x, norm: (x, norm), lambda norm, g: (g, norm_of(g).astype(norm.dtype)))


@jax.custom_vjp
def gate(x: jax.Array, factor: jax.Array) -> jax.Array:
    """x; the gradient by x is `factor` times what comes back."""
    return x


gate.defvjp(
    lambda x, factor: (x, factor),
    lambda factor, g: (g * factor.astype(g.dtype), jnp.zeros_like(factor)),
)


def gate_gradient(
    factor: jax.Array, stream: jax.Array, branch: jax.Array, absent: Callable[[], Any]
) -> tuple[jax.Array, jax.Array]:
    """At a join: the gradient goes back into the branch `factor` times; the values stay as they are."""
    return stream, gate(branch, factor)


def gate_branch(
    factor: jax.Array, stream: jax.Array, branch: jax.Array, absent: Callable[[], Any]
) -> tuple[jax.Array, jax.Array]:
    """At a join: `factor` times the branch; 0 deletes the block, so that what it took is passed on."""
    factor = factor.astype(branch.dtype)
    return stream, factor * branch + (1 - factor) * absent()


def fit(x: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """`x` in this shape: every nth along axes that are longer, zeros at the end of shorter ones.

    So do shortcuts without weights (He et al. 2015, section 3.3, option A).
    """
    strides = [-(-before // after) for before, after in zip(x.shape, shape, strict=True)]
    x = x[tuple(slice(None, None, stride) for stride in strides)]
    return jnp.pad(x, [(0, after - before) for before, after in zip(x.shape, shape, strict=True)])


def norm_of(x: jax.Array) -> jax.Array:
    """The Euclidean norm of all elements, in float32 or wider, for any size that it can have."""
    x = x.astype(wide(x.dtype))
    squares = jnp.sum(jnp.square(x))

    def scaled() -> jax.Array:
        largest = jnp.max(jnp.abs(x))
        largest = jnp.where(largest > 0, largest, 1)
        return largest * jnp.sqrt(jnp.sum(jnp.square(x / largest)))

    # Squares of what is left of a gradient after 50 sigmoids would be 0, and of one that explodes, infinite.
    return lax.cond((squares > 1e-20) & (squares < 1e30), lambda: jnp.sqrt(squares), scaled)
