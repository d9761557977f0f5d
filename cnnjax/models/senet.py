"""Squeeze-and-excitation networks.

Hu, Shen, Albanie, Sun and Wu, "Squeeze-and-Excitation Networks", 2017 (arXiv 1709.01507): ResNet and
ResNeXt that scale each channel at the end of a branch, before the addition (section 3, figure 3). Both dense
layers have biases, as in the released nets; these also have option B throughout and, in SE-ResNets, the
stride in a bottleneck's first 1x1. The dense layers' kernels are drawn from N(0, 2 / c_in), as the paper has
He et al.'s. CIFAR nets have He et al.'s shortcuts.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from cnnjax.models.checks import check_at_least_one
from cnnjax.models.registry import register
from cnnjax.models.resnet import IMAGENET_STAGES, ResNet, bottleneck_shape, residual_shape
from cnnjax.ops.init import he_normal_fan_in


class SqueezeExcitation(nn.Module):
    """Scales each channel by a number in (0, 1) that depends on the means of all (equations 2 to 4).

    Attributes:
        reduction: r, channels over units between the two dense layers; there is at least one.
        dtype: of the dense layers.
    """

    reduction: int = 16
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[batch, height, width, channel] to the same."""
        channels = x.shape[-1]
        dense = partial(nn.Dense, kernel_init=he_normal_fan_in, dtype=self.dtype)
        y = nn.relu(dense(max(1, channels // self.reduction), name="reduce")(x.mean((1, 2))))
        y = nn.sigmoid(dense(channels, name="expand")(y))
        return x * y[:, None, None]


class SENet(ResNet):
    """A residual net with squeeze and excitation.

    Attributes:
        reduction: r, of the dense layers.
    """

    reduction: int = 16

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least_one(self, "reduction")

    def templates(self, train: bool) -> dict[str, Any]:
        """What blocks and shortcuts are made with, by the names of their fields."""
        return {**super().templates(train), "refine": self.configure(SqueezeExcitation, name="se")}


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
