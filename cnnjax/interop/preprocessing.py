"""How an image becomes a network's input."""

from typing import NamedTuple

import numpy as np
from PIL import Image

from cnnjax.images import IMAGENET_MEAN, IMAGENET_STD, centre_square


class Preprocessing(NamedTuple):
    """How an image becomes a network's input.

    Attributes:
        resize: pixels of the shorter side before cropping.
        crop: side of the central square that is cropped, in pixels.
        mean: of red, green and blue from 0 to 1, to subtract.
        std: of red, green and blue, to divide by.
        interpolation: Pillow's filter for resizing, with antialiasing.
    """

    resize: int = 256
    crop: int = 224
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    interpolation: Image.Resampling = Image.Resampling.BILINEAR


IMAGENET = Preprocessing()
"""Torchvision's, for most networks."""


def subtract_mean(red: float, green: float, blue: float, crop: int = 224) -> Preprocessing:
    """Return Caffe's: only the mean is subtracted, from pixels up to 255."""
    return Preprocessing(256, crop, (red / 255, green / 255, blue / 255), (1 / 255, 1 / 255, 1 / 255))


def preprocess(image: Image.Image, how: Preprocessing) -> np.ndarray:
    """[crop, crop, 3] float32."""
    square = centre_square(image, how.resize, how.crop, how.interpolation)
    return ((np.asarray(square, np.float32) / 255 - how.mean) / how.std).astype(np.float32)
