"""A convolution whose kernel differs from place to place: locally connected, weights not shared."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from cnnjax.ops.precision import wide


class LocalConv(nn.Module):
    """k x k windows one pixel apart, each with its own weights and biases.

    The kernel is [height, width, k * k * c_in, filters]; a window's pixels are in order of rows, with the
    channels of a pixel together.
    """

    filters: int
    size: int
    padding: int
    kernel_init: Callable[..., jax.Array]
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[batch, height, width, c_in] to [batch, height + 2 p - k + 1, width + 2 p - k + 1, filters]."""
        pads = ((0, 0), (self.padding, self.padding), (self.padding, self.padding), (0, 0))
        x = jnp.pad(x.astype(self.dtype), pads)
        height, width = (length - self.size + 1 for length in x.shape[1:3])
        offsets = [(row, column) for row in range(self.size) for column in range(self.size)]
        windows = [x[:, row : row + height, column : column + width] for row, column in offsets]
        x = jnp.concatenate(windows, axis=-1)
        kernel = self.param(
            "kernel", self.kernel_init, (height, width, x.shape[-1], self.filters), wide(self.dtype)
        )
        bias = self.param("bias", nn.initializers.zeros, (height, width, self.filters), wide(self.dtype))
        x = jnp.einsum("bhwi,hwio->bhwo", x, kernel.astype(self.dtype))
        return x + bias.astype(self.dtype)
