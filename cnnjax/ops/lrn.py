"""Local response normalisation, across channels and within them.

Krizhevsky, Sutskever and Hinton, "ImageNet Classification with Deep Convolutional Neural Networks", 2012,
section 3.3. The paper multiplies alpha by the sum of squares; Caffe, cuda-convnet and PyTorch by their mean,
which makes the same alpha weaker by the window's size. `alpha_per` chooses between them.
"""

import jax
import jax.numpy as jnp

from cnnjax.ops.pooling import average_pool
from cnnjax.ops.precision import wide

ALPHA_PER = ("sum", "mean")


def local_response_norm(
    x: jax.Array, size: int, alpha: float, beta: float, k: float, alpha_per: str = "sum"
) -> jax.Array:
    """x / (k + alpha * s) ** beta, with s the sum of squares over `size` adjacent channels.

    Args:
        x: [..., channel].
        size: channels in a window, centred; at the first and last channels it is cut off.
        alpha: weight of the sum of squares ("sum", the paper) or of their mean over `size` ("mean").
        beta: exponent.
        k: added to the weighted squares.
        alpha_per: "sum" or "mean".
    """
    if alpha_per == "mean":
        alpha = alpha / size
    full = x.astype(wide(x.dtype))
    pads = [(0, 0)] * (x.ndim - 1) + [(size // 2, (size - 1) // 2)]
    squares = jnp.pad(jnp.square(full), pads)
    s = sum(squares[..., i : i + x.shape[-1]] for i in range(size))
    return (full * (k + alpha * s) ** -beta).astype(x.dtype)


def response_norm_within_maps(x: jax.Array, size: int, alpha: float, beta: float, k: float) -> jax.Array:
    """x / (k + alpha * m) ** beta, with m the mean of squares of `size` by `size` pixels of a channel.

    This is cuda-convnet's "rnorm" and Caffe's LRN "within channel"; pixels beyond the border count as zeros.

    Args:
        x: [batch, height, width, channel].
        size: side of the window, odd.
        alpha: weight of the mean.
        beta: exponent.
        k: added to the weighted mean.
    """
    full = x.astype(wide(x.dtype))
    means = average_pool(jnp.square(full), size, 1, padding=size // 2)
    return (full * (k + alpha * means) ** -beta).astype(x.dtype)
