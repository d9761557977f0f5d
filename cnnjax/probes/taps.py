"""Identities with a say in the gradient: taps tell its norm, gates multiply it. And what replaces a block."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from cnnjax.ops.precision import wide
from cnnjax.ops.sums import norm


@jax.custom_vjp
def tap(x: jax.Array, zero: jax.Array) -> jax.Array:
    """x; the gradient by `zero` is the Euclidean norm of that by x."""
    return x


tap.defvjp(lambda x, zero: (x, zero), lambda zero, g: (g, norm_of(g).astype(zero.dtype)))


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
    return norm(x.astype(wide(x.dtype)))
