"""The network of CIFAR-10's speed record.

Jordan, "94% on CIFAR-10 in 3.29 Seconds on a Single GPU", 2024 (arXiv 2404.00498), section 3 and listing 4,
airbench94. Three groups of two 3x3 convolutions, the first of each pooled before its BatchNorm, and in front
a 2x2 convolution whose kernel whitens patches of the training images: their principal components divided by
the root of their variance, and the same with the other sign. It is computed before the first step
(`initial_from`), and the recipe does not train it, nor BatchNorm's scales.

- Kernels begin as PyTorch's, U(-a, a) with a = 1 / sqrt(fan-in), but the first outputs of a 3x3 convolution
  as copies of its inputs ("identity initialization").
- Logits are divided by 9. There is no bias in the classifier.
- BatchNorm has epsilon 1e-12, and 0.6 of its running averages is kept in each step.
- Images of any size above 9 pixels fit: the last pooling takes what is left, 3x3 of 32x32.
"""

from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from numpy.lib.stride_tricks import sliding_window_view

from cnnjax.models.checks import check_at_least_one, check_image_size
from cnnjax.models.network import BatchNormNetwork
from cnnjax.models.registry import register
from cnnjax.ops.activations import ACTIVATIONS
from cnnjax.ops.init import dirac, uniform
from cnnjax.ops.pooling import max_pool
from cnnjax.ops.precision import wide

PATCH = 2
"""Side of the patches that are whitened."""
CHUNK = 500
"""Images whose patches are in memory at once."""


class Airbench(BatchNormNetwork, kw_only=True):
    """A whitening layer, three groups of two convolutions, a classifier. 1,972,792 parameters.

    Attributes:
        width: filters of the first group; the other two have four times as many.
        whitened: whether the first kernel whitens; it is else drawn as the classifier's.
        logit_scale: what multiplies the logits.
        whitening_epsilon: what is added to a component's variance, for pixels of variance 1.
    """

    width: int = 64
    num_classes: int = 10
    activation: str = "gelu"
    bn_momentum: float = 0.6
    bn_epsilon: float = 1e-12
    whitened: bool = True
    logit_scale: float = 1 / 9
    whitening_epsilon: float = 5e-4

    input_shape: ClassVar[tuple[int, int, int]] = (32, 32, 3)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least_one(self, "width")

    def initial_from(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """The whitening kernel from images [image, height, width, channel] as the network takes them."""
        if not self.whitened:
            return {}
        return {"params/whiten/kernel": whitening(images, self.whitening_epsilon)}

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Images [batch, height, width, channel] to logits [batch, num_classes], float32 or wider.

        Raises:
            UserError: a side of the images is below 9 pixels.
        """
        check_image_size(x, 9)
        act, norm = ACTIVATIONS[self.activation], self.batch_norm(train)
        conv = self.conv(kernel_size=(3, 3), padding=1, use_bias=False, kernel_init=identity_first)

        def group(x: jax.Array, index: int, filters: int) -> jax.Array:
            x = max_pool(conv(filters, name=f"group{index}_conv1")(x), 2, 2)
            x = act(name=f"group{index}_act1")(norm(name=f"group{index}_bn1")(x))
            x = conv(filters, name=f"group{index}_conv2")(x)
            return act(name=f"group{index}_act2")(norm(name=f"group{index}_bn2")(x))

        patch = PATCH * PATCH * x.shape[-1]
        whiten = self.conv(features=2 * patch, kernel_size=(PATCH, PATCH), padding=0)
        x = whiten(kernel_init=as_torch, bias_init=uniform(patch**-0.5), name="whiten")(x)
        x = act(name="act0")(x)
        for index, factor in enumerate((1, 4, 4), start=1):
            x = group(x, index, factor * self.width)
        x = x.max((1, 2))
        classifier = self.dense(use_bias=False, kernel_init=as_torch)(self.num_classes, name="classifier")
        logits = classifier(x)
        return logits.astype(wide(self.dtype)) * self.logit_scale


def whitening(images: np.ndarray, epsilon: float) -> np.ndarray:
    """The kernel [2, 2, channel, 2 * patch] whose outputs have variance 1 and no correlation on `images`.

    Second moments are those about 0, as in the author's code; the second half of the outputs is the first
    with the other sign. Components come in falling order of their variance.

    Args:
        images: [image, height, width, channel].
        epsilon: what is added to each component's variance.
    """
    size = PATCH * PATCH * images.shape[-1]
    moments = np.zeros((size, size))
    for some in np.array_split(images, range(CHUNK, len(images), CHUNK)):
        views = sliding_window_view(some.astype(np.float64), (PATCH, PATCH), (1, 2))
        patches = np.moveaxis(views, 3, -1)  # [image, row, column, 2, 2, channel]
        flat = patches.reshape(-1, size)
        moments += flat.T @ flat / (len(flat) / len(some) * len(images))
    variances, components = np.linalg.eigh(moments)
    scaled = (components / np.sqrt(variances + epsilon))[:, ::-1]
    kernel = np.concatenate([scaled, -scaled], 1)
    return kernel.reshape(PATCH, PATCH, images.shape[-1], -1).astype(np.float32)


def as_torch(key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
    """U(-a, a) with a = 1 / sqrt(fan-in), PyTorch's default for a kernel [..., input, output]."""
    return uniform(float(np.prod(shape[:-1])) ** -0.5)(key, shape, dtype)


def identity_first(key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
    """As `as_torch`, but as many outputs as there are inputs begin as their copies (section 3.3)."""
    kernel, copies = as_torch(key, shape, dtype), min(shape[-2:])
    return kernel.at[..., :copies].set(dirac(key, (*shape[:-1], copies), dtype))


@register("airbench", Airbench)
def airbench(**fields: Any) -> Airbench:
    """Jordan 2024, airbench94: CIFAR-10's speed record."""
    return Airbench(**fields)
