"""Normalisation and augmentation of a batch, pure, for use inside jit.

Images are `[batch, height, width, channel]`. The random numbers of a whole batch are drawn from one key, so
the result does not depend on how the batch is spread over devices.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cnnjax.data.dataset import CHUNK
from cnnjax.data.whiten import Whitening, contrast_normalizer, fit_whitening, whitener
from cnnjax.data.windows import area_crop, scale_crop
from cnnjax.errors import UserError
from cnnjax.images import IMAGENET_MEAN, IMAGENET_STD

NORMALIZATIONS = ("pixel_mean", "raw_mean", "channel", "gcn", "zca", "none")
MIXING = ("gcn", "zca")
"""Those in which each number depends on the whole image, so that black and white are no values."""
Augmentation = Callable[[jax.Array, jax.Array], jax.Array]


def crop(images: jax.Array, key: jax.Array, padding: int = 4, mode: str = "constant") -> jax.Array:
    """Pad each image by `padding` pixels on every side and cut a random window of its own size.

    `mode` is that of `jnp.pad`: "constant" pads with zeros, "reflect" with what lies inside the border.

    Use it after the normalisation: He et al. 2015 pad with zeros once the mean is subtracted.
    """
    shape = images.shape[1:]
    padded = jnp.pad(images, ((0, 0), (padding, padding), (padding, padding), (0, 0)), mode)
    corners = jax.random.randint(key, (len(images), 2), 0, 2 * padding + 1)

    def window(image: jax.Array, corner: jax.Array) -> jax.Array:
        return jax.lax.dynamic_slice(image, (corner[0], corner[1], 0), shape)

    # On 128 CIFAR images this takes 0.3 ms on a CPU, one-hot products 2 ms and a cascade of selects 12 ms.
    return jax.vmap(window)(padded, corners)


def flip(images: jax.Array, key: jax.Array) -> jax.Array:
    """Mirror each image, left to right, with probability 1/2."""
    mirrored = jax.random.bernoulli(key, shape=(len(images), 1, 1, 1))
    return jnp.where(mirrored, images[:, :, ::-1], images)


def _then_flip(crop: Callable[[jax.Array, jax.Array], jax.Array]) -> Augmentation:
    def augment(key: jax.Array, images: jax.Array) -> jax.Array:
        crop_key, flip_key = jax.random.split(key)
        return flip(crop(images, crop_key), flip_key)

    return augment


AUGMENTATIONS: dict[str, Augmentation] = {
    "none": lambda key, images: images,
    "flip": lambda key, images: flip(images, key),
    "crop": lambda key, images: crop(images, key),
    "crop_flip": _then_flip(crop),
    "reflect_crop_flip": _then_flip(functools.partial(crop, mode="reflect")),
    "translate_flip": _then_flip(functools.partial(crop, padding=2, mode="reflect")),
    "scale_crop_flip": _then_flip(scale_crop),
    "area_crop_flip": _then_flip(area_crop),
}
"""Name to function of (key, images)."""


def alternating_flip(images: jax.Array, run_key: jax.Array, step: jax.Array, examples: int) -> jax.Array:
    """Mirror each image in every second epoch (Jordan 2024, arXiv 2404.00498, section 3.6).

    Whether that is the odd or the even ones is a hash of the image and the run's key, so that any two epochs
    in a row show each image both ways. Epochs are those of `cnnjax.data.batches`.

    Args:
        images: [batch, height, width, channel], not yet augmented.
        run_key: the same in every step.
        step: how many batches there were before.
        examples: how many there are in an epoch.
    """
    factors = jax.random.bits(run_key, images.shape[1:], jnp.uint32)
    bits = jax.lax.bitcast_convert_type(images.astype(jnp.float32), jnp.uint32)
    odd = jnp.sum(bits * factors, axis=(1, 2, 3), dtype=jnp.uint32) >> 31
    epochs = (step * len(images) + jnp.arange(len(images))) // examples
    mirrored = (odd + epochs.astype(jnp.uint32)) % 2 == 1
    return jnp.where(mirrored[:, None, None, None], images[:, :, ::-1], images)


def translate_alternating_flip(
    key: jax.Array, run_key: jax.Array, step: jax.Array, images: jax.Array, examples: int
) -> jax.Array:
    """Jordan 2024: mirrored in every second epoch, then moved by up to 2 pixels with reflection."""
    return crop(alternating_flip(images, run_key, step, examples), key, padding=2, mode="reflect")


EPOCH_AUGMENTATIONS: dict[str, Callable[..., jax.Array]] = {
    "translate_alternating_flip": translate_alternating_flip,
}
"""Those that know the epoch: name to function of (key, run_key, step, images, examples in an epoch)."""


def augmentation(name: str) -> Augmentation:
    """Look up the augmentation of this name, a function of (key, images)."""
    if name not in AUGMENTATIONS:
        there = ", ".join([*AUGMENTATIONS, *EPOCH_AUGMENTATIONS])
        raise UserError(f"no augmentation is called {name!r}; there are: {there}")
    return AUGMENTATIONS[name]


def normalizer(
    train_images: np.ndarray, kind: str, dtype: Any = np.float32, whitening: Whitening | None = None
) -> Callable[[jax.Array], jax.Array]:
    """Make a function from uint8 images to normalised images of the same shape, in `dtype`.

    `pixel_mean` subtracts the training set's mean image and divides by 255 (He et al. 2015, section 4.2);
    `raw_mean` does not divide, as for nets without BatchNorm (Krizhevsky et al. 2012, section 2); `channel`
    brings each channel of the training set to mean 0 and standard deviation 1; `gcn` normalises each image's
    contrast, and `zca` then whitens (`cnnjax.data.whiten`), by `whitening` instead of the training set's if
    it is given; `none` divides by 255.
    """
    _check(kind)
    if kind == "none":
        return byte_scaler(dtype)
    if kind == "gcn":
        return contrast_normalizer(dtype)
    if kind == "zca":
        return whitener(whitening or fit_whitening(train_images), dtype)
    total, squares = _sums(train_images)
    if kind in ("pixel_mean", "raw_mean"):
        mean, scale = total / len(train_images), np.array(255.0 if kind == "pixel_mean" else 1.0)
    else:
        pixels = train_images.size // train_images.shape[-1]
        mean = total.sum(axis=(0, 1)) / pixels
        scale = np.sqrt(squares / pixels - mean**2)
        if not scale.all():
            raise UserError("a channel has the same value in all training images; normalise by pixel_mean")
    return _normalizer(mean, scale, dtype)


def photograph_normalizer(kind: str, dtype: Any = np.float32) -> Callable[[jax.Array], jax.Array]:
    """Like `normalizer`, with ImageNet's statistics for all photographs; computing their own takes a pass.

    The mean image of random crops is taken to be a single colour.
    """
    _check(kind)
    if kind == "none":
        return byte_scaler(dtype)
    if kind == "gcn":
        return contrast_normalizer(dtype)
    if kind == "zca":
        raise UserError("normalize='zca': whitening is for small images in memory; photographs take gcn")
    scale = {"pixel_mean": 255.0, "raw_mean": 1.0, "channel": 255 * np.array(IMAGENET_STD)}[kind]
    return _normalizer(255 * np.array(IMAGENET_MEAN), np.array(scale), dtype)


def byte_scaler(dtype: Any = np.float32) -> Callable[[jax.Array], jax.Array]:
    """Make the function from bytes to numbers from 0 to 1, in `dtype`."""
    return _normalizer(np.zeros(()), np.array(255.0), dtype)


def _check(kind: str) -> None:
    if kind not in NORMALIZATIONS:
        raise UserError(f"no normalisation is called {kind!r}; there are: {', '.join(NORMALIZATIONS)}")


def _normalizer(mean: np.ndarray, scale: np.ndarray, dtype: Any) -> Callable[[jax.Array], jax.Array]:
    mean, scale = mean.astype(dtype), scale.astype(dtype)

    def normalize(images: jax.Array) -> jax.Array:
        return (images.astype(dtype) - mean) / scale

    return normalize


def _sums(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sum the images, `[height, width, channel]`, and the squares of each channel, exactly."""
    total = np.zeros(images.shape[1:], np.uint64)
    squares = np.zeros(images.shape[-1], np.uint64)
    for start in range(0, len(images), CHUNK):
        chunk = images[start : start + CHUNK]
        total += chunk.sum(axis=0, dtype=np.uint64)
        squares += np.square(chunk, dtype=np.uint32).sum(axis=(0, 1, 2), dtype=np.uint64)
    return total, squares
