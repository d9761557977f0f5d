"""Initial weights of the papers."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp


def he_normal(key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
    """N(0, 2 / (k * k * c_out)) for a kernel [k, k, c_in, c_out] (He et al. 2015b, eq. 14).

    Their eq. 10 has the fan-in instead, and they say that either suffices; the authors' released residual
    nets use the fan-out.
    """
    return _normal(key, shape, math.sqrt(2 / (math.prod(shape[:-2]) * shape[-1])), dtype)


def he_normal_fan_in(key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
    """N(0, 2 / (k * k * c_in)) (He et al. 2015b, eq. 10): for a classifier, whose fan-out means little."""
    return _normal(key, shape, math.sqrt(2 / math.prod(shape[:-1])), dtype)


def lecun_1998(key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
    """U(-a, a) with a = 2.4 / fan-in (LeCun et al. 1998, appendix A)."""
    return uniform(2.4 / math.prod(shape[:-1]))(key, shape, dtype)


def caffe_xavier(key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
    """U(-a, a) with a = sqrt(3 / fan-in): Caffe's "xavier", which leaves out Glorot & Bengio's fan-out."""
    return uniform(math.sqrt(3 / math.prod(shape[:-1])))(key, shape, dtype)


def normal(std: float) -> Callable[..., jax.Array]:
    """An initialiser: N(0, std * std)."""

    def init(key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
        return _normal(key, shape, std, dtype)

    return init


def uniform(bound: Any) -> Callable[..., jax.Array]:
    """An initialiser: U(-bound, bound), with `bound` a number or an array that broadcasts to the shape."""

    def init(key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
        draw = jax.random.uniform(key, (math.prod(shape),), dtype, -1, 1).reshape(shape)
        return jnp.asarray(bound, dtype) * draw

    return init


def _normal(key: jax.Array, shape: tuple[int, ...], std: float, dtype: Any) -> jax.Array:
    # Drawn flat: the numbers are those of a draw in `shape`, and XLA:CPU compiles it seven times faster.
    return std * jax.random.normal(key, (math.prod(shape),), dtype).reshape(shape)
