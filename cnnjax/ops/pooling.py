"""Pooling as Caffe, cuda-convnet and PyTorch define it: explicit padding, output sizes rounded down or up.

Maxima are taken over columns, then over rows, each between strided slices of the whole array: forward and
backward together are two to three times faster on a CPU than XLA's windowed reduction, and there is no
scatter, which is not deterministic on GPUs. The first of equal maxima, row by row, gets the gradient, as in
PyTorch.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from cnnjax.errors import UserError
from cnnjax.ops.precision import wide


@partial(jax.jit, static_argnames=("size", "strides", "padding", "ceil"))  # one call in a trace, with a name
def max_pool(x: jax.Array, size: int, strides: int, padding: int = 0, ceil: bool = False) -> jax.Array:
    """Maxima of square windows.

    Args:
        x: [batch, height, width, channel].
        size: of a window, in both directions.
        strides: between windows.
        padding: pixels of -inf on each side.
        ceil: round the output size up, so that the last window may reach beyond the padding; a window that
            would start there is dropped.

    Raises:
        UserError: the image is smaller than a window.
    """
    for axis in (2, 1):
        windows, beyond = _windows(x.shape[axis], size, strides, padding, ceil)
        pads = [(padding, beyond) if other == axis else (0, 0) for other in range(x.ndim)]
        x = jnp.pad(x, pads, constant_values=-jnp.inf)
        reach = (windows - 1) * strides + 1
        largest, *rest = (lax.slice_in_dim(x, i, i + reach, strides, axis) for i in range(size))
        for other in rest:
            largest = jnp.where((other > largest) | jnp.isnan(other), other, largest)
        x = largest
    return x


@partial(jax.jit, static_argnames=("size", "strides", "padding", "ceil", "count_padding"))
def average_pool(
    x: jax.Array, size: int, strides: int, padding: int = 0, ceil: bool = False, count_padding: bool = True
) -> jax.Array:
    """Means of square windows; the arguments are those of `max_pool`.

    The padding counts as zeros, unless `count_padding` is off: then a mean is over the image's pixels only.
    A window's pixels beyond the padding (`ceil`) never count.
    """
    pads, counts = [], []
    for length in x.shape[1:3]:
        windows, beyond = _windows(length, size, strides, padding, ceil)
        first = np.arange(windows) * strides - padding
        low, high = (-padding, length + padding) if count_padding else (0, length)
        counts.append(np.minimum(first + size, high) - np.maximum(first, low))
        pads.append((padding, beyond))
    sums = lax.reduce_window(
        x.astype(wide(x.dtype)),
        0.0,
        lax.add,
        (1, size, size, 1),
        (1, strides, strides, 1),
        ((0, 0), *pads, (0, 0)),
    )
    return (sums / np.outer(*counts).astype(np.float32)[..., None]).astype(x.dtype)


@partial(jax.jit, static_argnames="size")
def adaptive_average_pool(x: jax.Array, size: int) -> jax.Array:
    """Means of `size` by `size` windows that cover the image evenly, as in PyTorch's adaptive pooling.

    Window i of an axis of n pixels goes from floor(i n / size) to ceil((i + 1) n / size), so that windows may
    share pixels, and the pixels of a smaller image repeat. An image of `size` pixels a side stays as it is.
    """
    for axis in (1, 2):
        length = x.shape[axis]
        windows = [(i * length // size, -(-(i + 1) * length // size)) for i in range(size)]
        means = [lax.slice_in_dim(x, *window, axis=axis).mean(axis) for window in windows]
        x = jnp.stack(means, axis)
    return x


def _windows(length: int, size: int, strides: int, padding: int, ceil: bool) -> tuple[int, int]:
    """The number of windows along one axis, and of pixels that they reach beyond its end."""
    steps, rest = divmod(length + 2 * padding - size, strides)
    if steps < 0:
        raise UserError(f"an image of {length} pixels is too small for pooling {size} by {size}")
    if ceil and rest and (steps + 1) * strides < length + padding:
        steps += 1
    return steps + 1, max(0, steps * strides + size - length - padding)
