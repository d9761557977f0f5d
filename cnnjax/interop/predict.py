"""Best guesses for image files, with torchvision's weights and preprocessing.

An image is resized so that its shorter side has 256 pixels (342 for Inception v3; 232 for torchvision's
second generation of weights, IMAGENET1K_V2), by bilinear interpolation with antialiasing; its central 224x224
pixels (299x299) are normalised by ImageNet's mean and standard deviation. GoogLeNet's and Inception's weights
come from TensorFlow and take pixels from -1 to 1. Torchvision converts them inside the network
(`transform_input`); here the preprocessing does.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from cnnjax.errors import UserError
from cnnjax.images import IMAGENET_MEAN, IMAGENET_STD, centre_square, decode
from cnnjax.interop.torchvision import from_torchvision


class Preprocessing(NamedTuple):
    """How an image becomes a network's input: sides in pixels, and mean and deviation of each colour."""

    resize: int = 256
    crop: int = 224
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD


HALVES = (0.5, 0.5, 0.5)
PREPROCESSING = {
    "googlenet": Preprocessing(mean=HALVES, std=HALVES),
    "inception_v3": Preprocessing(342, 299, HALVES, HALVES),
}


def preprocess(image: Image.Image, how: Preprocessing) -> np.ndarray:
    """[crop, crop, 3] float32."""
    square = centre_square(image, how.resize, how.crop)
    return ((np.asarray(square, np.float32) / 255 - how.mean) / how.std).astype(np.float32)


def predict(
    name: str, weights: str | Path, images: Iterable[str | Path], resize: int | None = None, best: int = 5
) -> list[list[tuple[int, float]]]:
    """Return the `best` classes of each image file with their probabilities, the most probable first.

    Args:
        name: torchvision's name of the network.
        weights: a file that `from_torchvision` takes.
        images: files of any kind that Pillow reads.
        resize: pixels of the shorter side before cropping; by default as for the network's first weights.
        best: how many classes.

    Raises:
        UserError: a file is not an image, or the weights do not fit.
    """
    how = PREPROCESSING.get(name.removesuffix("_torchvision"), Preprocessing())
    if resize is not None:
        how = how._replace(resize=resize)
    if how.resize < how.crop:
        raise UserError(f"resize={resize}: must be at least {how.crop}, the side of the crop")
    inputs = [preprocess(decode(Path(path).read_bytes(), str(path)), how) for path in images]
    model, variables = from_torchvision(name, weights)
    apply = jax.jit(
        lambda variables, image: jax.nn.softmax(model.apply(variables, image[None], train=False)[0])
    )
    guesses = []
    for image in inputs:
        probabilities = np.asarray(apply(variables, jnp.asarray(image)))
        order = np.argsort(-probabilities, kind="stable")[:best]
        guesses.append([(int(index), float(probabilities[index])) for index in order])
    return guesses
