"""Random windows of small images, resized, and hidden squares.

Images are `[batch, height, width, channel]`; pure, for use inside jit.
"""

import math
import zlib

import jax
import jax.numpy as jnp

from cnnjax.data.pictures import ASPECT, SMALLEST, TRIES


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
