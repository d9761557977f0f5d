"""Initial weights of the papers."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from cnnjax.errors import UserError


def he_normal(key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
    """N(0, 2 / (k * k * c_out)) for a kernel [k, k, c_in, c_out] (He et al. 2015b, eq. 14).

    Their eq. 10 has the fan-in instead, and they say that either suffices; their released residual nets use
    the fan-out.
    """
    return _normal(key, shape, math.sqrt(2 / (math.prod(shape[:-2]) * shape[-1])), dtype)


def he_normal_fan_in(key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
    """N(0, 2 / (k * k * c_in)) (He et al. 2015b, eq. 10): for a classifier, whose fan-out means little."""
    return _normal(key, shape, math.sqrt(2 / math.prod(shape[:-1])), dtype)


def lecun_1998(key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
    """U(-a, a) with a = 2.4 / fan-in (LeCun et al. 1998, appendix A)."""
    return uniform(2.4 / math.prod(shape[:-1]))(key, shape, dtype)


def caffe_xavier(key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
    """U(-a, a) with a = sqrt(3 / fan-in): Caffe's "xavier", which omits Glorot & Bengio's fan-out."""
    return uniform(math.sqrt(3 / math.prod(shape[:-1])))(key, shape, dtype)


def normal(std: float) -> Callable[..., jax.Array]:
    """An initialiser: N(0, std * std)."""

    def init(key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
        return _normal(key, shape, std, dtype)

    return init


def truncated_normal(std: float) -> Callable[..., jax.Array]:
    """An initialiser: TensorFlow's truncated normal, N(0, std * std) cut off at 2 std."""

    def init(key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
        return std * jax.random.truncated_normal(key, -2, 2, (math.prod(shape),), dtype).reshape(shape)

    return init


def uniform(bound: Any) -> Callable[..., jax.Array]:
    """An initialiser: U(-bound, bound), with `bound` a number or an array that broadcasts to the shape."""

    def init(key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
        draw = jax.random.uniform(key, (math.prod(shape),), dtype, -1, 1).reshape(shape)
        return jnp.asarray(bound, dtype) * draw

    return init


def glorot_uniform(key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
    """U(-a, a), a = sqrt(6 / (k * k * (c_in + c_out))) (Glorot & Bengio 2010, eq. 16)."""
    fans = math.prod(shape[:-2]) * (shape[-2] + shape[-1])
    return uniform(math.sqrt(6 / fans))(key, shape, dtype)


def delta_orthogonal(key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
    """Zero except the centre: a random [c_in, c_out], its rows orthonormal (Xiao et al. 2018, section 3.3).

    Such a convolution keeps the norm of its input where it has stride 1.

    Raises:
        UserError: there are fewer outputs than inputs, or a kernel without a centre.
    """
    *extent, c_in, c_out = shape
    if c_in > c_out:
        raise UserError(
            f"delta-orthogonal kernels need as many outputs as inputs, not {c_in} to {c_out} channels: "
            "choose another init, or blocks without a bottleneck"
        )
    return _at_centre(extent, nn.initializers.orthogonal()(key, (c_in, c_out), dtype))


def dirac(key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
    """Zero except at the centre, which passes channel i on as channel i (Zagoruyko & Komodakis 2017)."""
    *extent, c_in, c_out = shape
    return _at_centre(extent, jnp.eye(c_in, c_out, dtype=dtype))


def _at_centre(extent: Sequence[int], matrix: jax.Array) -> jax.Array:
    """The kernel [*extent, c_in, c_out] that is `matrix` at its centre pixel and zero elsewhere."""
    if any(size % 2 == 0 for size in extent):
        raise UserError(f"a kernel of {' by '.join(map(str, extent))} has no centre: its sizes must be odd")
    centre = tuple(size // 2 for size in extent)
    return jnp.zeros((*extent, *matrix.shape), matrix.dtype).at[centre].set(matrix)


def _normal(key: jax.Array, shape: tuple[int, ...], std: float, dtype: Any) -> jax.Array:
    # Drawn flat: the numbers are the same as in `shape`, and XLA:CPU compiles it seven times faster.
    return std * jax.random.normal(key, (math.prod(shape),), dtype).reshape(shape)


INITS = {
    "he": he_normal,
    "he_fan_in": he_normal_fan_in,
    "glorot": glorot_uniform,
    "delta_orthogonal": delta_orthogonal,
    "dirac": dirac,
}
"""Name to function, for the networks' field `kernel_init`."""
