"""Best guesses for image files, with weights and preprocessing as others publish them.

Torchvision resizes an image so that its shorter side has 256 pixels (342 for Inception v3; 232 for its second
generation of weights, IMAGENET1K_V2), by bilinear interpolation with antialiasing; the central 224x224 pixels
(299x299) are normalised by ImageNet's mean and standard deviation. What timm does is in the `config.json`
beside its weights.
"""

from collections.abc import Iterable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from cnnjax.errors import UserError
from cnnjax.images import decode
from cnnjax.interop.load import load_weights
from cnnjax.interop.preprocessing import preprocess


def predict(
    name: str, weights: str | Path, images: Iterable[str | Path], resize: int | None = None, best: int = 5
) -> list[list[tuple[int, float]]]:
    """Return the `best` classes of each image file with their probabilities, the most probable first.

    Args:
        name: the network's name where the weights are from.
        weights: what `load_weights` takes.
        images: files of any kind that Pillow reads.
        resize: pixels of the shorter side before cropping; by default as the weights' source has it.
        best: how many classes.

    Raises:
        UserError: a file is not an image, or the weights do not fit.
    """
    pictures = [decode(Path(path).read_bytes(), str(path)) for path in images]
    model, variables, how = load_weights(name, weights)
    if resize is not None:
        how = how._replace(resize=resize)
    if how.resize < how.crop:
        raise UserError(f"resize={resize}: must be at least {how.crop}, the side of the crop")
    apply = jax.jit(
        lambda variables, image: jax.nn.softmax(model.apply(variables, image[None], train=False)[0])
    )
    guesses = []
    for picture in pictures:
        probabilities = np.asarray(apply(variables, jnp.asarray(preprocess(picture, how))))
        order = np.argsort(-probabilities, kind="stable")[:best]
        guesses.append([(int(index), float(probabilities[index])) for index in order])
    return guesses
