"""Changes of images' colours along the principal components (Krizhevsky et al. 2012, section 4.1)."""

import zlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cnnjax.data.dataset import CHUNK

IMAGENET_COLOURS = (
    np.array([0.2175, 0.0188, 0.0045])[:, None]
    * np.array([[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]]).T
)
"""Those of ImageNet's pixels, from 0 to 1, as facebook/fb.resnet.torch has them: [component, channel]."""


def principal_colours(images: np.ndarray) -> np.ndarray:
    """The principal components of the pixels of images [image, height, width, channel] of bytes.

    Returns [component, channel], for pixels from 0 to 1, each as long as the standard deviation along it. The
    paper says eigenvalues, which are their squares; of its pixels, from 0 to 255, those would turn every
    image into another colour.
    """
    channels = images.shape[-1]
    total, products = np.zeros(channels), np.zeros((channels, channels))
    for start in range(0, len(images), CHUNK):
        pixels = images[start : start + CHUNK].reshape(-1, channels) / 255
        total += pixels.sum(0)
        products += pixels.T @ pixels
    count = images.size // channels
    mean = total / count
    variances, components = np.linalg.eigh(products / count - np.outer(mean, mean))
    return (np.sqrt(np.maximum(variances, 0)) * components).T[::-1]


def change_colours(
    images: jax.Array, key: jax.Array, colours: Any, std: float, normalize: Callable[[Any], jax.Array]
) -> jax.Array:
    """Add to each normalised image [batch, height, width, channel] a colour of its own.

    It is the sum of `colours` [component, channel] times normal numbers of standard deviation `std`, 0.1 in
    the paper. `normalize` says what it is in the images' units.
    """
    key = jax.random.fold_in(key, zlib.crc32(b"colour"))  # the crops' and mirrors' keys are split from it
    amounts = std * jax.random.normal(key, (len(images), len(colours)), images.dtype)
    shift = amounts @ jnp.asarray(colours, images.dtype)
    black = np.zeros(images.shape[1:], np.uint8)
    return images + shift[:, None, None] * (normalize(black + np.uint8(255)) - normalize(black))
