"""Global contrast normalisation and ZCA whitening (Goodfellow et al. 2013, section 5.2), as NiN has them too.

The constants are those of the authors' code, pylearn2: each image has the norm 55, and 0.1 is added to the
variances before they are divided out.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from cnnjax.data.dataset import CHUNK
from cnnjax.errors import UserError

NORM, BIAS = 55.0, 0.1
_LEAST = 1e-8  # of an image's norm, below which it is taken to be of one colour
_LARGEST = 8192  # numbers of an image: the matrix then takes 256 MiB


class Whitening(NamedTuple):
    """What turns images of normalised contrast, as rows, into whitened ones: `(rows - mean) @ matrix`.

    Attributes:
        mean: [number].
        matrix: [number, number], symmetric: the inverse square root of their covariance plus `BIAS`.
    """

    mean: np.ndarray
    matrix: np.ndarray


def contrast_normalizer(dtype: Any = np.float32) -> Callable[[Any], jax.Array]:
    """Make the function that brings each image [batch, ...] to mean 0 and Euclidean norm 55, in `dtype`."""

    def normalize(images: Any) -> jax.Array:
        return _normalize_contrast(jnp.asarray(images, dtype), jnp)

    return normalize


def whitener(whitening: Whitening, dtype: Any = np.float32) -> Callable[[Any], jax.Array]:
    """Make the function that normalises contrast and then whitens images [batch, ...], in `dtype`."""
    normalize = contrast_normalizer(dtype)
    mean, matrix = whitening.mean.astype(dtype), whitening.matrix.astype(dtype)

    def whiten(images: Any) -> jax.Array:
        rows = normalize(images).reshape(len(images), -1)
        white = jnp.matmul(rows - mean, matrix, precision=jax.lax.Precision.HIGHEST)
        return white.reshape(images.shape)

    return whiten


def fit_whitening(images: np.ndarray) -> Whitening:
    """Fit the whitening of training images of bytes [image, ...], in float64.

    Raises:
        UserError: the images are so large that the matrix would not be small.
    """
    size = int(np.prod(images.shape[1:]))
    if size > _LARGEST:
        raise UserError(
            f"normalize='zca': images of {size:,} numbers take a matrix of {size:,} x {size:,}: "
            "leave it out, or average pixels by downsample"
        )
    total, products = np.zeros(size), np.zeros((size, size))
    for start in range(0, len(images), CHUNK):
        chunk = images[start : start + CHUNK]
        rows = _normalize_contrast(chunk.astype(np.float64), np).reshape(len(chunk), -1)
        total += rows.sum(0)
        products += rows.T @ rows
    mean = total / len(images)
    variances, components = np.linalg.eigh(products / len(images) - np.outer(mean, mean))
    return Whitening(mean, (components / np.sqrt(np.maximum(variances, 0) + BIAS)) @ components.T)


def _normalize_contrast(images: Any, numpy: Any) -> Any:
    axes = tuple(range(1, images.ndim))
    centred = images - images.mean(axes, keepdims=True)
    norms = numpy.sqrt((centred**2).sum(axes, keepdims=True))
    return centred * (NORM / numpy.where(norms < _LEAST, NORM, norms))
