"""Squeeze-and-excitation networks.

Hu, Shen, Albanie, Sun and Wu, "Squeeze-and-Excitation Networks", 2017 (arXiv 1709.01507): ResNet and ResNeXt
that scale each channel at the end of a branch, before the addition (section 3, figure 3). Both dense layers
have biases, as in the released nets; these also have option B throughout and, in SE-ResNets, the stride in a
bottleneck's first 1x1. The dense layers' kernels are drawn from N(0, 2 / c_in), since the paper initialises
as He et al. do. CIFAR nets have He et al.'s shortcuts.

`senet154` is the net of the ILSVRC 2017 entry: SE-ResNeXt-152 64x4d with half the filters in a block's first
1x1, three 3x3 convolutions for the first 7x7, 3x3 convolutions in shortcuts that halve the resolution, and
dropout before the classifier. `se_bn_inception` scales the output of each of BN-Inception's modules; as in
the released net, pool projections are 128 wide in 4c and 4d and the first convolution is dense. It has
11,931,622 parameters. A count of 11,938,246 takes the factors of the 6,624 scaled channels for weights, but
they come from the dense layers.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from flax import linen as nn

from cnnjax.models.bn_inception import BNInception
from cnnjax.models.checks import check_at_least_one, check_rates
from cnnjax.models.network import Template
from cnnjax.models.orders import Original
from cnnjax.models.registry import register
from cnnjax.models.residual import Finish
from cnnjax.models.resnet import (
    IMAGENET_STAGES,
    Bottleneck,
    ResNet,
    bottleneck_shape,
    group_width,
    residual_shape,
)
from cnnjax.models.shortcuts import ProjectionWhereNeeded
from cnnjax.ops.init import he_normal_fan_in
from cnnjax.ops.pooling import max_pool
from cnnjax.ops.precision import types


class SqueezeExcitation(nn.Module):
    """Scales each channel by a number in (0, 1) that depends on the means of all (equations 2 to 4).

    Attributes:
        reduction: r, the ratio of channels to units between the two dense layers; there is at least one unit.
        dtype: type of the dense layers' computation.
    """

    reduction: int = 16
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[batch, height, width, channel] to the same."""
        channels = x.shape[-1]
        dense = partial(nn.Dense, kernel_init=he_normal_fan_in, **types(self.dtype))
        y = nn.relu(dense(max(1, channels // self.reduction), name="reduce")(x.mean((1, 2))))
        y = nn.sigmoid(dense(channels, name="expand")(y))
        return x * y[:, None, None]


class SENet(ResNet, kw_only=True):
    """A residual net with squeeze and excitation.

    Attributes:
        reduction: r of the dense layers.
    """

    reduction: int = 16

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least_one(self, "reduction")

    def refine(self) -> Template:
        """Return a template of the squeeze and excitation at the end of each branch."""
        return partial(SqueezeExcitation, self.reduction, self.dtype, name="se")


class HalvedBottleneck(Bottleneck):
    """A bottleneck with half the filters in its first convolution."""

    def branch(self, y: jax.Array, order: Original) -> jax.Array:
        """[batch, height, width, channel] to [batch, height / strides, width / strides, 4 * filters]."""
        groups = self.cardinality
        inner = groups * group_width(self.filters, self.base_width)
        y = self.conv(inner // 2, (1, 1), 1, padding=0, name="conv1")(y)
        y = order.between(y, 1)
        y = self.conv(inner, (3, 3), self.strides, padding=1, feature_group_count=groups, name="conv2")(y)
        y = order.between(y, 2)
        return self.last(4 * self.filters, (1, 1), 1, padding=0, name="conv3")(y)


class SpatialProjectionWhereNeeded(ProjectionWhereNeeded):
    """Option B with a 3x3 convolution where there is a stride."""

    strided_size: ClassVar[int] = 3


def deep_stem(x: jax.Array, filters: int, conv: Template, finish: Finish) -> jax.Array:
    """Three 3x3 convolutions, the first with stride 2, the last twice as wide, and 3x3 max pooling."""
    for index, (features, strides) in enumerate(((filters, 2), (filters, 1), (2 * filters, 1)), start=1):
        x = finish(conv(features, (3, 3), strides, padding=1, name=f"conv{index}")(x), index)
    return max_pool(x, 3, 2, ceil=True)


class SENet154(SENet, kw_only=True):
    """The ILSVRC 2017 entry.

    Attributes:
        dropout: rate before the classifier.
    """

    dropout: float = 0.2

    choices: ClassVar[Mapping[str, Any]] = {
        **SENet.choices,
        "block": {"bottleneck": HalvedBottleneck},
        "shortcut": {**SENet.choices["shortcut"], "B": SpatialProjectionWhereNeeded},
        "stem": {"imagenet": deep_stem},
        "strides_at": ("3x3",),
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        check_rates(self, "dropout")

    def head(self, x: jax.Array, train: bool) -> jax.Array:
        """Features [batch, height, width, channel] to logits."""
        x = nn.Dropout(self.dropout, deterministic=not train)(x.mean((1, 2)))
        return self.classify(x, he_normal_fan_in)


class SEBNInception(BNInception, kw_only=True):
    """BN-Inception with squeeze and excitation at the end of each module.

    Attributes:
        reduction: r of the dense layers.
    """

    projection: int = 128
    reduction: int = 16

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least_one(self, "reduction")

    def refine(self) -> Template:
        """Return a template of the squeeze and excitation at the end of each module."""
        return partial(SqueezeExcitation, self.reduction, self.dtype, name="se")


@register("se_resnet{depth}", SENet, IMAGENET_STAGES)
def se_resnet(depth: int, **fields: Any) -> SENet:
    """Hu et al. 2017, SE-ResNet (ImageNet: 18, 34, 50, 101, 152, 200; CIFAR: any 6n + 2 or 9n + 2)."""
    shape = residual_shape("se_resnet", depth)
    shortcut = "A" if shape["block"] == "basic" and depth not in IMAGENET_STAGES else "B"
    return SENet(**{**shape, "shortcut": shortcut, **fields})


@register("se_resnext{depth}_{c}x{d}d", SENet, ((50, 32, 4), (101, 32, 4)))
def se_resnext(depth: int, c: int, d: int, **fields: Any) -> SENet:
    """Hu et al. 2017, SE-ResNeXt (50, 101, 152, 200; any cardinality and group width)."""
    shape = bottleneck_shape(f"se_resnext{depth}_{c}x{d}d", depth)
    groups = {"cardinality": c, "base_width": d}
    return SENet(**{**shape, **groups, "shortcut": "B", "strides_at": "3x3", **fields})


@register("senet154", SENet154)
def senet154(**fields: Any) -> SENet154:
    """Hu et al. 2017, SENet-154, the ILSVRC 2017 entry."""
    shape = {**bottleneck_shape("senet154", 152), "cardinality": 64, "base_width": 4}
    return SENet154(**{**shape, "shortcut": "B", "strides_at": "3x3", **fields})


@register("se_bn_inception", SEBNInception)
def se_bn_inception(**fields: Any) -> SEBNInception:
    """Hu et al. 2017, SE-BN-Inception."""
    return SEBNInception(**fields)
