"""Make square inputs of a network from photographs, on the host.

Sides are given for an input of 224 pixels, as in the papers, and in proportion for others. Everything
random comes from a numpy generator.
"""

import math
from collections.abc import Callable

import numpy as np
from PIL import Image

from cnnjax.images import centre_square

SUFFIXES = {".jpg", ".jpeg", ".jfif", ".png", ".gif", ".webp", ".bmp", ".ppm", ".pgm", ".tif", ".tiff"}
SMALLEST, ASPECT, TRIES = 0.08, 4 / 3, 10
"""Of random windows: the least part of the area, the widest aspect, and how often one that does not fit is
drawn again."""

Crop = Callable[[Image.Image, int, np.random.Generator], Image.Image]  # picture, side of the square


def centre(image: Image.Image, size: int, _: np.random.Generator | None = None) -> Image.Image:
    """The central square after resizing the shorter side to 256, for evaluation."""
    return centre_square(image, _of(256, size), size)


def crop(image: Image.Image, size: int, rng: np.random.Generator) -> Image.Image:
    """A random square after resizing the shorter side to 256 (Krizhevsky et al. 2012, section 4.1)."""
    return _window(image, size, _of(256, size), rng)


def scale_crop(image: Image.Image, size: int, rng: np.random.Generator) -> Image.Image:
    """A random square after resizing the shorter side to 256 to 480 (He et al. 2015, section 3.4)."""
    return _window(image, size, int(rng.integers(_of(256, size), _of(480, size), endpoint=True)), rng)


def area_crop(image: Image.Image, size: int, rng: np.random.Generator) -> Image.Image:
    """A window of 8 to 100 % of the area and an aspect of 3/4 to 4/3, made square (Szegedy et al. 2014).

    As in torchvision's `RandomResizedCrop`: a window that does not fit is drawn again, ten times at most;
    then it is the largest central one of an allowed aspect.
    """
    width, height = image.size
    for _ in range(TRIES):
        area = width * height * rng.uniform(SMALLEST, 1)
        aspect = math.exp(rng.uniform(-math.log(ASPECT), math.log(ASPECT)))
        across, down = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < across <= width and 0 < down <= height:
            left, top = (
                rng.integers(width - across, endpoint=True),
                rng.integers(height - down, endpoint=True),
            )
            break
    else:
        across, down = min(width, round(height * ASPECT)), min(height, round(width * ASPECT))
        left, top = (width - across) // 2, (height - down) // 2
    box = (float(left), float(top), float(left + across), float(top + down))
    return image.resize((size, size), Image.Resampling.BILINEAR, box)


def _flipped(crop: Crop) -> Crop:
    def cropped(image: Image.Image, size: int, rng: np.random.Generator) -> Image.Image:
        image = crop(image, size, rng)
        return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if rng.random() < 0.5 else image

    return cropped


CROPS: dict[str, Crop] = {
    "none": centre,
    "flip": _flipped(centre),
    "crop": crop,
    "crop_flip": _flipped(crop),
    "scale_crop_flip": _flipped(scale_crop),
    "area_crop_flip": _flipped(area_crop),
}
"""A config's `augment` to what it does."""


def _of(side: int, size: int) -> int:
    return round(side * size / 224)


def _window(image: Image.Image, size: int, shorter: int, rng: np.random.Generator) -> Image.Image:
    """A random window of `size` pixels of the image resized to `shorter`; only the window is computed."""
    scale = min(image.size) / shorter
    left, top = (scale * int(rng.integers(max(1, int(side / scale) - size + 1))) for side in image.size)
    width, height = image.size
    box = (left, top, min(left + scale * size, width), min(top + scale * size, height))
    return image.resize((size, size), Image.Resampling.BILINEAR, box)
