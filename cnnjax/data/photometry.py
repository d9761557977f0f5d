"""Random brightness, contrast and saturation (Howard 2013, section 2.2)."""

import zlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

_LUMA = np.array([0.299, 0.587, 0.114])  # of red, green and blue in grey, as Pillow has it


def change_photometry(
    images: jax.Array, key: jax.Array, strength: float, normalize: Callable[[Any], jax.Array]
) -> jax.Array:
    """Change each normalised image [batch, height, width, channel]: three changes in an order of its own.

    Each is by a factor of its own from 1 - `strength` to 1 + `strength`, 0.5 in the paper, and as in Pillow's
    `ImageEnhance`: between black (brightness), its mean grey (contrast) or its grey version (saturation) and
    the image, clipped to what a picture can hold. `normalize`, which must act on each number by itself, says
    what black and white are in the images' units.
    """
    order_key, factor_key = jax.random.split(jax.random.fold_in(key, zlib.crc32(b"photometry")))
    count = len(images)
    orders = jax.random.permutation(order_key, jnp.tile(jnp.arange(3), (count, 1)), axis=1, independent=True)
    factors = 1 + strength * jax.random.uniform(factor_key, (count, 3), images.dtype, -1, 1)
    black = normalize(np.zeros(images.shape[1:], np.uint8))
    white = normalize(np.full(images.shape[1:], 255, np.uint8))
    pixels = (images - black) / (white - black)
    return black + jax.vmap(_change)(pixels, orders, factors) * (white - black)


def _change(image: jax.Array, order: jax.Array, factors: jax.Array) -> jax.Array:
    """Blend an image [height, width, channel] of numbers from 0 to 1 in this order."""
    for place in range(3):
        grey = image @ jnp.asarray(_LUMA, image.dtype) if image.shape[-1] == 3 else image.mean(-1)
        least = jnp.stack([jnp.zeros_like(grey), jnp.full_like(grey, grey.mean()), grey])
        kind = order[place]
        image = jnp.clip(least[kind][..., None] * (1 - factors[kind]) + image * factors[kind], 0, 1)
    return image
