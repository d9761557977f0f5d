"""Normalisation and augmentation of a batch, pure, for use inside jit.

Images are `[batch, height, width, channel]`. The random numbers of a whole batch are drawn from one key, so
the result does not depend on how the batch is spread over devices.
"""

import functools
import math
import zlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cnnjax.data.dataset import CHUNK
from cnnjax.data.pictures import ASPECT, SMALLEST, TRIES
from cnnjax.data.whiten import Whitening, contrast_normalizer, fit_whitening, whitener
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


def area_crop(images: jax.Array, key: jax.Array) -> jax.Array:
    """Resize a window of 8 to 100 % of each image's area and an aspect of 3/4 to 4/3 to the image's size.

    As for photographs (`cnnjax.data.pictures.area_crop`; Szegedy et al. 2014, section 6).
    """
    height, width = images.shape[1:3]
    keys = jax.random.split(key, 4)
    tries = (len(images), TRIES)
    area = height * width * jax.random.uniform(keys[0], tries, minval=SMALLEST, maxval=1.0)
    bound = math.log(ASPECT)
    aspect = jnp.exp(jax.random.uniform(keys[1], tries, minval=-bound, maxval=bound))
    sides = jnp.round(
        jnp.stack([jnp.sqrt(area / aspect), jnp.sqrt(area * aspect)], -1)
    )  # [..., down, across]
    whole = jnp.array([height, width])
    fits = ((sides >= 1) & (sides <= whole)).all(-1)
    first = jnp.take_along_axis(sides, fits.argmax(1)[:, None, None], 1)[:, 0]
    largest = jnp.array([min(height, round(width * ASPECT)), min(width, round(height * ASPECT))])
    window = jnp.where(fits.any(1)[:, None], first, largest)
    corner = jnp.floor(jax.random.uniform(keys[2], (len(images), 2)) * (whole - window + 1))
    corner = jnp.where(fits.any(1)[:, None], corner, (whole - window) // 2)
    return _resized(images, whole / window, corner)


def scale_crop(images: jax.Array, key: jax.Array) -> jax.Array:
    """Enlarge each image and cut a random window of its own size.

    The shorter side grows from 224 to 256 to 480, in proportion (He et al. 2015, section 3.4).
    """
    scale_key, corner_key = jax.random.split(key)
    whole = jnp.array(images.shape[1:3])
    side = min(images.shape[1:3])
    shorter = jax.random.randint(
        scale_key, (len(images), 1), round(256 * side / 224), round(480 * side / 224) + 1
    )
    scale = shorter / side
    room = jnp.floor(whole * scale + 1e-3) - whole
    corner = jnp.floor(jax.random.uniform(corner_key, (len(images), 2)) * (room + 1))
    return _resized(images, jnp.broadcast_to(scale, corner.shape), corner / scale)


def _resized(images: jax.Array, scale: jax.Array, corner: jax.Array) -> jax.Array:
    """Windows of the images' size after scaling by `scale` [image, 2], from `corner` [image, 2] in pixels."""

    def window(image: jax.Array, scale: jax.Array, corner: jax.Array) -> jax.Array:
        return jax.image.scale_and_translate(image, image.shape, (0, 1), scale, -corner * scale, "linear")

    return jax.vmap(window)(images, scale.astype(images.dtype), corner.astype(images.dtype))


def cut_out(images: jax.Array, key: jax.Array, size: int) -> jax.Array:
    """Set a square of `size` pixels to 0 in each image; its centre is any pixel (DeVries and Taylor 2017).

    So it may lie partly outside. After the normalisation 0 is the mean. The paper takes 16 pixels for
    CIFAR-10 and 8 for CIFAR-100.
    """
    height, width = images.shape[1:3]
    key = jax.random.fold_in(key, zlib.crc32(b"cutout"))
    first = jax.random.randint(key, (len(images), 2), 0, jnp.array([height, width])) - size // 2

    def inside(length: int, axis: int) -> jax.Array:
        place = jnp.arange(length) - first[:, axis, None]
        return (place >= 0) & (place < size)

    hidden = inside(height, 0)[:, :, None, None] & inside(width, 1)[:, None, :, None]
    return jnp.where(hidden, 0, images)


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


def augmentation(name: str) -> Augmentation:
    """Look up the augmentation of this name, a function of (key, images)."""
    if name not in AUGMENTATIONS:
        raise UserError(f"no augmentation is called {name!r}; there are: {', '.join(AUGMENTATIONS)}")
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
