"""Network in Network.

Lin, Chen and Yan, "Network In Network", 2013 (arXiv 1312.4400): two 1x1 convolutions follow each convolution,
and the three together are a small perceptron that slides over the image. ReLU follows every convolution, even
the last, which makes a map for each class; the means of these maps are the logits, without any fully
connected layer.

The paper prints neither the widths nor the standard deviations of the initial weights. Those of `nin_cifar10`
and `nin_cifar100` are from the first author's configuration files, those of `nin_imagenet` from the net that
he contributed to Caffe's model zoo. As there, all pooling takes maxima and rounds sizes up. The text has
dropout after all but the last of the small perceptrons (section 4.1); the zoo's net only after the third:
`dropout_after=(1, 2, 3)` is the text's. Without BatchNorm the scale of the pixels matters: the CIFAR nets are
for images after global contrast normalisation and ZCA, of a standard deviation near 1, and `nin_imagenet` for
raw pixels less their mean.
"""

from typing import Any

import jax
from flax import linen as nn

from cnnjax.models.checks import check_at_least_one, check_image_size, check_rates
from cnnjax.models.network import ConvNetwork, scale_filters
from cnnjax.models.registry import register
from cnnjax.ops.activations import ACTIVATIONS
from cnnjax.ops.init import normal
from cnnjax.ops.pooling import max_pool
from cnnjax.ops.precision import wide


class NiN(ConvNetwork, kw_only=True):
    """Stages of a k x k and two 1x1 convolutions, with 3x3 max pooling of stride 2 between the stages.

    The 1x1 convolutions have the authors' names, cccp1, cccp2, ... (cascaded cross-channel parametric
    pooling).

    Attributes:
        filters: for each stage those of the k x k convolution and of the two 1x1 ones; the last are the
            classes.
        sizes: for each stage the side k of the first kernel; the padding is half of it, or none if it has a
            stride.
        stds: for each stage the standard deviations of the initial weights.
        strides: stride of the first convolution.
        dropout_after: stages, counted from 1, with dropout after their pooling.
        width: filters of the first convolution; all other layers keep their ratio to it.
        num_classes: maps of the last layer.
        dropout: rate of that dropout.
    """

    filters: tuple[tuple[int, ...], ...]
    sizes: tuple[int, ...]
    stds: tuple[tuple[float, float, float], ...]
    dropout_after: tuple[int, ...]
    width: int
    num_classes: int
    strides: int = 1
    dropout: float = 0.5

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """[height, width, channel] of the authors' images."""
        return (32, 32, 3) if self.strides == 1 else (224, 224, 3)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least_one(self, "width", "strides")
        check_rates(self, "dropout")

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Images [batch, height, width, channel] to logits [batch, num_classes], float32 or wider.

        Raises:
            UserError: the images are too small for the pooling.
        """
        check_image_size(x, 6 if self.strides == 1 else 55)
        act = ACTIVATIONS[self.activation]
        conv = self.conv()
        ratio = self.width / self.filters[0][0]
        widths = [[scale_filters(ratio, filters) for filters in stage] for stage in self.filters]
        widths[-1].append(self.num_classes)

        for stage, (outer, *inner) in enumerate(widths, start=1):
            size, stds = self.sizes[stage - 1], self.stds[stage - 1]
            strides = self.strides if stage == 1 else 1
            padding = size // 2 if strides == 1 else 0
            init = normal(stds[0])
            x = conv(outer, (size, size), strides, padding=padding, kernel_init=init, name=f"conv{stage}")(x)
            x = act(name=f"act_conv{stage}")(x)
            for index, (filters, std) in enumerate(zip(inner, stds[1:], strict=True), start=2 * stage - 1):
                x = conv(filters, (1, 1), padding=0, kernel_init=normal(std), name=f"cccp{index}")(x)
                x = act(name=f"act_cccp{index}")(x)
            if stage < len(widths):
                x = max_pool(x, 3, 2, ceil=True)
            if stage in self.dropout_after:
                x = nn.Dropout(self.dropout, deterministic=not train)(x)
        return x.astype(wide(self.dtype)).mean((1, 2))


CIFAR = {
    "filters": ((192, 160, 96), (192, 192, 192), (192, 192)),
    "sizes": (5, 5, 3),
    "dropout_after": (1, 2),
    "width": 192,
}


@register("nin_cifar10", NiN)
def nin_cifar10(**fields: Any) -> NiN:
    """Lin et al. 2013, for CIFAR-10."""
    return NiN(**{**CIFAR, "stds": ((0.05, 0.05, 0.05),) * 3, "num_classes": 10, **fields})


@register("nin_cifar100", NiN)
def nin_cifar100(**fields: Any) -> NiN:
    """Lin et al. 2013, for CIFAR-100: smaller initial weights in the first stage."""
    stds = ((0.001, 0.01, 0.01), (0.05, 0.05, 0.05), (0.05, 0.05, 0.05))
    return NiN(**{**CIFAR, "stds": stds, "num_classes": 100, **fields})


@register("nin_imagenet", NiN)
def nin_imagenet(**fields: Any) -> NiN:
    """Lin et al. 2013, for ImageNet as in Caffe's model zoo."""
    defaults = {
        "filters": ((96, 96, 96), (256, 256, 256), (384, 384, 384), (1024, 1024)),
        "sizes": (11, 5, 3, 3),
        "stds": ((0.01, 0.05, 0.05), (0.05, 0.05, 0.05), (0.01, 0.05, 0.05), (0.05, 0.05, 0.01)),
        "strides": 4,
        "dropout_after": (3,),
        "width": 96,
        "num_classes": 1000,
    }
    return NiN(**{**defaults, **fields})
