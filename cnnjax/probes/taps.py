"""Identities with a say in the gradient: taps tell its norm, gates multiply it."""

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
