"""VGG on images that are smaller than the 32x32 pixels that it takes, for `Config.model` to name."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from cnnjax.models.vgg import STAGES, VGG

SIDE = 32


class PaddedVGG(VGG, kw_only=True):
    """VGG with one linear layer at the end, as for CIFAR, and zeros around images below 32x32 pixels."""

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Images [batch, height, width, channel] to logits [batch, num_classes]."""
        margins = [divmod(max(0, SIDE - side), 2) for side in x.shape[1:3]]
        around = [(half, half + rest) for half, rest in margins]
        return super().__call__(jnp.pad(x, [(0, 0), *around, (0, 0)]), train)


def vgg11(num_classes: int, dtype: Any, width: int = 64) -> VGG:
    """Column A of the paper's table 1, without BatchNorm, from He's weights."""
    fields: Any = {"stages": STAGES[11], "head": "cifar", "kernel_init": "torchvision"}
    return PaddedVGG(**fields, width=width, num_classes=num_classes, dtype=dtype)
