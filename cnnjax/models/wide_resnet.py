"""Wide residual networks.

Zagoruyko and Komodakis, "Wide Residual Networks", 2016 (arXiv 1605.07146): `wrn{depth}_{k}` are the CIFAR and
SVHN nets of table 1 with blocks B(3, 3), k times as wide as He et al.'s, and `wide_resnet{depth}_{k}` the
ImageNet nets of table 8, whose bottlenecks have a 3x3 convolution k times as wide. The latter are also
torchvision's: option B, the stride in the 3x3.

As in the authors' code a `wrn` has no BatchNorm right after the first convolution; where the number of
channels changes, the shortcut is a 1x1 convolution of the branch's input, without BatchNorm; and kernels
are drawn from N(0, 2 / (k * k * c_in)). The depth in the name counts the three projections of the shortcuts
but not the classifier. Dropout between a block's convolutions is off by default; the paper's rates are 0.3
for CIFAR and 0.4 for SVHN.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

import jax
from flax import linen as nn

from cnnjax.models.checks import blocks_in, check_at_least_one, check_rates
from cnnjax.models.orders import Original
from cnnjax.models.registry import register
from cnnjax.models.residual import ResidualNet, convolution_stem
from cnnjax.models.resnet import BasicBlock, ResNet, bottleneck_shape


class WideBlock(BasicBlock):
    """Two 3x3 convolutions with dropout before the second."""

    dropout: float = 0.0
    train: bool = False

    @classmethod
    def fields_from(cls, network: Any, train: bool) -> dict[str, Any]:
        """Its dropout."""
        return {"dropout": network.dropout, "train": train}

    def branch(self, y: jax.Array, order: Original) -> jax.Array:
        """[batch, height, width, channel] to [batch, height / strides, width / strides, filters]."""
        y = self.conv(self.filters, (3, 3), self.strides, padding=1, name="conv1")(y)
        y = nn.Dropout(self.dropout, deterministic=not self.train)(order.between(y, 1))
        return self.last(self.filters, (3, 3), 1, padding=1, name="conv2")(y)


class WideResNet(ResidualNet, kw_only=True):
    """A pre-activation net of wide basic blocks.

    Attributes:
        widening: k, the ratio of the first stage's filters to the first convolution's.
        dropout: rate between a block's convolutions.
    """

    shortcut: str = "B_without_bn"
    order: str = "full_preactivation"
    kernel_init: str = "he_fan_in"
    widening: int = 1
    dropout: float = 0.0

    choices: ClassVar[Mapping[str, Any]] = {
        **ResidualNet.choices,
        "block": {"basic": WideBlock},
        "stem": {"cifar": convolution_stem},
    }
    stem_activates: ClassVar[bool] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least_one(self, "widening")
        check_rates(self, "dropout")

    def filters(self, stage: int) -> int:
        """Return the filters of the blocks in the stage, counted from 1."""
        return self.widening * super().filters(stage)


@register("wrn{depth}_{k}", WideResNet, ((16, 8), (16, 10), (22, 8), (28, 10), (28, 12), (40, 4), (40, 8)))
def wrn(depth: int, k: int, **fields: Any) -> WideResNet:
    """Zagoruyko & Komodakis 2016, wide residual net for CIFAR (any depth 6n + 4, k times as wide)."""
    blocks = blocks_in("wrn", depth, 6, 4, f"_{k}")
    return WideResNet(**{"stage_sizes": (blocks,) * 3, "widening": k, **fields})


@register("wide_resnet{depth}_{k}", ResNet, ((50, 2), (101, 2)))
def wide_resnet(depth: int, k: int, **fields: Any) -> ResNet:
    """Zagoruyko & Komodakis 2016, ImageNet bottlenecks k times as wide inside (50, 101, 152, 200)."""
    shape = bottleneck_shape(f"wide_resnet{depth}_{k}", depth)
    return ResNet(**{**shape, "shortcut": "B", "strides_at": "3x3", "base_width": 64 * k, **fields})
