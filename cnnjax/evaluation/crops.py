"""Cut what `views` lists out of batches of images, in jax, and out of photographs, with Pillow."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from cnnjax.evaluation.views import Crops, View, views


def crops_of(
    images: Any, crops: Crops, side: int, padding: int = 0, mode: str = "constant", scales: Any = None
) -> jax.Array:
    """The windows of images [batch, height, width, channel], as [crop, batch, side, side, channel].

    The mean over crops of the softmax is what the papers report. The images are first padded by `padding`
    pixels, in a `mode` of `jnp.pad`: a network that was trained on windows of images padded so is tested on
    such. `crops` and `scales` are those of `views`; those of "dense" are not squares of `side`, so there
    `windows` is for them.

    Raises:
        UserError: as in `views`.
    """
    images = pad(images, padding, mode)
    _, height, width, _ = images.shape
    return jnp.stack(windows(images, views(crops, height, width, side, scales)))


def pad(images: Any, padding: int, mode: str = "constant") -> jax.Array:
    """Images [batch, height, width, channel] with `padding` more pixels on every side."""
    return jnp.pad(images, ((0, 0), (padding, padding), (padding, padding), (0, 0)), mode)


def windows(images: Any, wanted: Sequence[View]) -> list[jax.Array]:
    """Each view of images [batch, height, width, channel], as [batch, *output, channel].

    Resizing is bilinear, with antialiasing where it shrinks.
    """
    resized = {size: _resize(images, size) for size in {view.resized for view in wanted}}
    found = []
    for view in wanted:
        window = resized[view.resized][
            :, view.top : view.top + view.height, view.left : view.left + view.width
        ]
        window = _resize(window, view.output)
        found.append(window[:, :, ::-1] if view.mirrored else window)
    return found


def picture_windows(picture: Image.Image, wanted: Sequence[View]) -> list[np.ndarray]:
    """Each view of one photograph, as uint8 [*output, 3]; to the pixel as training's test crops one."""
    bilinear = Image.Resampling.BILINEAR
    resized = {
        size: picture.resize((size[1], size[0]), bilinear) for size in {view.resized for view in wanted}
    }
    found = []
    for view in wanted:
        box = view.left, view.top, view.left + view.width, view.top + view.height
        window = resized[view.resized].crop(box)
        if (view.height, view.width) != view.output:
            window = window.resize((view.output[1], view.output[0]), bilinear)
        pixels = np.asarray(window)
        found.append(pixels[:, ::-1] if view.mirrored else pixels)
    return found


def _resize(images: Any, size: tuple[int, int]) -> Any:
    if images.shape[1:3] == size:
        return images
    return jax.image.resize(images, (len(images), *size, images.shape[-1]), "bilinear")
