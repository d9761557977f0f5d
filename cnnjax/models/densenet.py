"""Densely connected networks, for CIFAR and ImageNet.

Huang, Liu, van der Maaten and Weinberger, "Densely Connected Convolutional Networks", 2016 (arXiv
1608.06993): the CIFAR and SVHN nets of table 2 and the ImageNet nets of table 1. DenseNet-161, with growth
rate 48, is from the authors' released code. The number in a name counts the layers with weights, except
that table 1's DenseNet-264 has 265.

In a dense block every layer takes the feature maps of all layers before it, concatenated, and adds
`growth_rate` of its own. Between blocks a transition keeps the fraction `compression` of the maps and halves
the resolution. `densenet{depth}_{k}` is the basic net, without compression and with one 3x3 convolution a
layer; `densenet_bc{depth}_{k}` and the ImageNet nets have bottlenecks (B) and compression 0.5 (C). To have
only one of the two, set `layer` or `compression`.

The paper's basic CIFAR nets begin with 16 channels, those of the released code with 2 k:
`build("densenet40_12", width=24, growth_rate=12)` has 1,059,298 parameters instead of 1,019,722.

Dropout follows every convolution except the first, including those of transitions, as in the paper and the
released code. The paper uses it, with rate 0.2, only for data without augmentation (CIFAR and SVHN without
"+" in table 2); `dropout` is 0 by default. Torchvision's ImageNet nets are the same, except that they drop
only after a layer's last convolution.

For the initial weights the paper refers to He et al.; kernels are drawn from N(0, 2 / (k * k * c_out)), as in
the released code, which also has BatchNorm's epsilon 1e-5 and decay 0.9.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from flax import linen as nn

from cnnjax.errors import UserError
from cnnjax.models.checks import blocks_in, check_at_least_one, check_image_size, check_rates
from cnnjax.models.network import BatchNormNetwork, Template
from cnnjax.models.orders import Original
from cnnjax.models.registry import register
from cnnjax.models.residual import convolution_stem, imagenet_stem
from cnnjax.ops.activations import ACTIVATIONS
from cnnjax.ops.init import he_normal, he_normal_fan_in
from cnnjax.ops.pooling import average_pool


class BasicLayer(nn.Module):
    """The composite function alone, with a 3x3 convolution (section 3)."""

    filters: int
    conv: Template
    norm: Template
    activation: Template
    dropout: Template

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[batch, height, width, channel] to the new feature maps [batch, height, width, filters]."""
        return self.composite(x, self.filters, 3, "1")

    def composite(self, x: jax.Array, filters: int, size: int, index: str) -> jax.Array:
        """BatchNorm, ReLU, a convolution and dropout (section 3, "composite function")."""
        x = self.activation(name=f"act{index}")(self.norm(name=f"bn{index}")(x))
        x = self.conv(filters, (size, size), 1, padding=size // 2, name=f"conv{index}")(x)
        return self.dropout()(x)


class BottleneckLayer(BasicLayer):
    """A 1x1 convolution to four growth rates before the 3x3 one (section 3, "bottleneck layers")."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[batch, height, width, channel] to the new feature maps [batch, height, width, filters]."""
        return self.composite(self.composite(x, 4 * self.filters, 1, "1"), self.filters, 3, "2")


class Transition(BasicLayer):
    """A 1x1 convolution to `filters` and 2x2 average pooling (section 3, "pooling layers")."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[batch, height, width, channel] to [batch, height // 2, width // 2, filters]."""
        return average_pool(self.composite(x, self.filters, 1, ""), 2, 2)


STEMS = {"cifar": convolution_stem, "imagenet": imagenet_stem}
LAYERS = {"basic": BasicLayer, "bottleneck": BottleneckLayer}


class DenseNet(BatchNormNetwork, kw_only=True):
    """Dense blocks with a transition after each but the last.

    Attributes:
        block_sizes: layers in each dense block.
        growth_rate: feature maps that a layer adds.
        layer: "basic" or "bottleneck".
        compression: the fraction of the feature maps that a transition keeps, rounded down.
        stem: "cifar" or "imagenet".
        width: filters of the first convolution; `build` keeps the growth rate's ratio to it.
        dropout: rate after every convolution except the first; 0.2 in the paper without augmentation.
        remat: whether the backward pass recomputes a layer's activations; otherwise their memory grows with
            the square of the number of layers in a block.
    """

    block_sizes: tuple[int, ...]
    growth_rate: int
    layer: str
    compression: float
    stem: str
    width: int
    dropout: float = 0.0
    num_classes: int = 10
    remat: bool = False

    choices: ClassVar[Mapping[str, Any]] = {
        **BatchNormNetwork.choices,
        "layer": LAYERS,
        "stem": STEMS,
    }

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """[height, width, channel] of the paper's images."""
        return (32, 32, 3) if self.stem == "cifar" else (224, 224, 3)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least_one(self, "block_sizes", "growth_rate", "width")
        check_rates(self, "dropout")
        if not 0 < self.compression <= 1:
            raise UserError(f"compression={self.compression}: must be in (0, 1], such as 0.5")

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Images [batch, height, width, channel] to logits [batch, num_classes], float32 or wider.

        Raises:
            UserError: the images are too small: nothing is left after the last transition.
        """
        transitions = len(self.block_sizes) - 1  # each halves; ImageNet's stem divides by 4 and rounds up
        check_image_size(x, 2**transitions if self.stem == "cifar" else 4 * 2**transitions - 3)
        conv, norm = self.conv(use_bias=False, kernel_init=he_normal), self.batch_norm(train)
        activation = ACTIVATIONS[self.activation]
        dropout = partial(nn.Dropout, self.dropout, deterministic=not train)
        layer_class = nn.remat(LAYERS[self.layer]) if self.remat else LAYERS[self.layer]

        x = STEMS[self.stem](x.astype(self.dtype), self.width, conv, Original(norm, activation).stem)
        digits = max(2, len(str(max(self.block_sizes))))
        for block, layers in enumerate(self.block_sizes, start=1):
            for index in range(1, layers + 1):
                name = f"block{block}_layer{index:0{digits}d}"
                layer = layer_class(self.growth_rate, conv, norm, activation, dropout, name=name)
                x = jnp.concatenate([x, layer(x)], axis=-1)
            if block <= transitions:
                filters = int(self.compression * x.shape[-1])
                transition = Transition(filters, conv, norm, activation, dropout, name=f"transition{block}")
                x = transition(x)
        x = activation(name="act")(norm(name="bn")(x)).mean((1, 2))
        return self.classify(x, he_normal_fan_in)


IMAGENET_BLOCKS = {
    121: (6, 12, 24, 16), 161: (6, 12, 36, 24), 169: (6, 12, 32, 32), 201: (6, 12, 48, 32),
    264: (6, 12, 64, 48),
}  # fmt: skip


@register("densenet{depth}_{k}", DenseNet, ((40, 12), (100, 12), (100, 24)))
def densenet(depth: int, k: int, **fields: Any) -> DenseNet:
    """Huang et al. 2016, DenseNet for CIFAR (any depth 3n + 4, growth rate k)."""
    layers = blocks_in("densenet", depth, 3, 4, f"_{k}")
    growth_rate = max(min(1, k), k * fields.get("width", 16) // 16)
    defaults = {"growth_rate": growth_rate, "layer": "basic", "compression": 1.0, "width": 16}
    return DenseNet(**{"block_sizes": (layers,) * 3, "stem": "cifar", **defaults, **fields})


@register("densenet_bc{depth}_{k}", DenseNet, ((100, 12), (250, 24), (190, 40)))
def densenet_bc(depth: int, k: int, **fields: Any) -> DenseNet:
    """Huang et al. 2016, DenseNet-BC for CIFAR (any depth 6n + 4, growth rate k)."""
    layers = blocks_in("densenet_bc", depth, 6, 4, f"_{k}")
    return _bottleneck_compressed(k, **{"block_sizes": (layers,) * 3, "stem": "cifar", **fields})


@register("densenet{depth}", DenseNet, IMAGENET_BLOCKS)
def densenet_imagenet(depth: int, **fields: Any) -> DenseNet:
    """Huang et al. 2016, DenseNet-BC for ImageNet (121, 161, 169, 201, 264)."""
    if depth not in IMAGENET_BLOCKS:
        raise UserError(
            f"densenet{depth}: ImageNet's depths are {', '.join(map(str, IMAGENET_BLOCKS))}; "
            f"CIFAR's nets have the growth rate in the name, such as densenet40_12"
        )
    defaults = {"block_sizes": IMAGENET_BLOCKS[depth], "stem": "imagenet", "num_classes": 1000}
    return _bottleneck_compressed(48 if depth == 161 else 32, **{**defaults, **fields})


def _bottleneck_compressed(k: int, **fields: Any) -> DenseNet:
    width = fields.get("width", 2 * fields.get("growth_rate", k))
    defaults = {"growth_rate": max(min(1, k), width // 2), "layer": "bottleneck", "compression": 0.5}
    return DenseNet(**{**defaults, **fields, "width": width})
