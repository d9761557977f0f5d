"""Plain and residual networks, for CIFAR and ImageNet.

He, Zhang, Ren and Sun, "Deep Residual Learning for Image Recognition", 2015 (arXiv 1512.03385): the ImageNet
nets of table 1, the CIFAR-10 nets of section 4.2 and the plain nets that both are compared with. ResNet-164
and ResNet-1001 are the post-activation bottleneck nets that He et al. 2016 (arXiv 1603.05027, table 3)
compare with.

A plain net is a residual net without its shortcuts: the same class, with one field changed. The default
shortcuts (`cnnjax.models.shortcuts`) are those of the paper's experiments: A for basic blocks (tables 2 and
6), B for bottlenecks (section 4.1, "deeper bottleneck architectures"). Torchvision's `resnet{depth}` use B
throughout and move a bottleneck's stride from the first 1x1 to the 3x3 convolution; they are
`resnet{depth}_torchvision` here.

The paper leaves three things open. Kernels drawn from N(0, 2 / (k * k * c_out)) and BatchNorm's epsilon
1e-5 are those of the authors' released code. Running averages (decay 0.9) at test time are fb.resnet.torch's;
the authors averaged over training images after training. The max pooling of the ImageNet nets has a pixel of
padding, as in fb.resnet.torch and torchvision; Caffe's rounds its size up instead, which shifts the windows
by a pixel.

A depth belongs to ImageNet if a paper uses it there (18, 34, 50, 101, 152; 200 is from He et al. 2016,
table 5), otherwise to CIFAR: with basic blocks if it is 6n + 2, with bottlenecks if it is only 9n + 2. 164 is
both; the papers give it bottlenecks.
"""

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import jax

from cnnjax.errors import UserError
from cnnjax.models.checks import blocks_in, check_at_least_one
from cnnjax.models.orders import Original
from cnnjax.models.registry import register
from cnnjax.models.residual import Block, ResidualNet


class BasicBlock(Block):
    """Two 3x3 convolutions (He et al. 2015, figure 5, left)."""

    depth: ClassVar[int] = 2

    def branch(self, y: jax.Array, order: Original) -> jax.Array:
        """[batch, height, width, channel] to [batch, height / strides, width / strides, filters]."""
        y = self.conv(self.filters, (3, 3), self.strides, padding=1, name="conv1")(y)
        y = order.between(y, 1)
        return self.last(self.filters, (3, 3), 1, padding=1, name="conv2")(y)


class Bottleneck(Block):
    """1x1 down, 3x3, 1x1 up to four times the filters (He et al. 2015, figure 5, right).

    `strides_at` names the convolution with the stride: "1x1" in the paper, "3x3" in torchvision. The 3x3
    convolution has `cardinality` groups, each with `base_width` channels where `filters` is 64.
    """

    strides_at: str = "1x1"
    cardinality: int = 1
    base_width: int = 64

    depth: ClassVar[int] = 3

    @classmethod
    def fields_from(cls, network: Any, train: bool) -> dict[str, Any]:
        """Where its stride is, and its groups."""
        return {
            "strides_at": network.strides_at,
            "cardinality": network.cardinality,
            "base_width": network.base_width,
        }

    def branch(self, y: jax.Array, order: Original) -> jax.Array:
        """[batch, height, width, channel] to [batch, height / strides, width / strides, 4 * filters]."""
        strides = {"1x1": 1, "3x3": 1, self.strides_at: self.strides}
        inner = self.cardinality * group_width(self.filters, self.base_width)
        y = self.conv(inner, (1, 1), strides["1x1"], padding=0, name="conv1")(y)
        y = order.between(y, 1)
        groups = self.cardinality
        y = self.conv(inner, (3, 3), strides["3x3"], padding=1, feature_group_count=groups, name="conv2")(y)
        y = order.between(y, 2)
        return self.last(4 * self.filters, (1, 1), 1, padding=0, name="conv3")(y)


def group_width(filters: int, base_width: int) -> int:
    """Return the channels of a bottleneck's group: `base_width` where the stage has 64 filters."""
    return filters * base_width // 64


BLOCKS = {"basic": BasicBlock, "bottleneck": Bottleneck}


class ResNet(ResidualNet, kw_only=True):
    """A plain or residual net, with the fields of its bottlenecks.

    Attributes:
        strides_at: the convolution of a bottleneck with the stride, "1x1" or "3x3".
        cardinality: groups of a bottleneck's 3x3 convolution (ResNeXt's).
        base_width: channels of a bottleneck's group, in a stage with 64 filters.
    """

    strides_at: str = "1x1"
    cardinality: int = 1
    base_width: int = 64

    choices: ClassVar[Mapping[str, Any]] = {
        **ResidualNet.choices,
        "block": BLOCKS,
        "strides_at": ("1x1", "3x3"),
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least_one(self, "cardinality")
        if group_width(self.width, self.base_width) < 1:
            raise UserError(
                f"base_width={self.base_width}, width={self.width}: their product must be at least 64"
            )


IMAGENET_STAGES = {
    18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3),
    200: (3, 24, 36, 3),
}  # fmt: skip
IMAGENET_PLAIN = (18, 34)
TORCHVISION = (18, 34, 50, 101, 152)
CIFAR = (20, 32, 44, 56, 110, 1202)
CIFAR_BOTTLENECK = (164, 1001)


@register("plain{depth}", ResNet, (*IMAGENET_PLAIN, *CIFAR[:-1]))
def plain(depth: int, **fields: Any) -> ResNet:
    """He et al. 2015, plain net (CIFAR: any 6n + 2; ImageNet: 18, 34)."""
    shape = imagenet_shape(depth) if depth in IMAGENET_PLAIN else cifar_shape("plain", depth, IMAGENET_PLAIN)
    return ResNet(**{**shape, "shortcut": "none", **fields})


@register("resnet{depth}", ResNet, (*IMAGENET_STAGES, *CIFAR, *CIFAR_BOTTLENECK))
def resnet(depth: int, **fields: Any) -> ResNet:
    """He et al. 2015, residual net (CIFAR: any 6n + 2 or 9n + 2; ImageNet: 18, 34, 50, 101, 152, 200)."""
    shape = residual_shape("resnet", depth)
    shortcut = "A" if shape["block"] == "basic" else "B"
    return ResNet(**{**shape, "shortcut": shortcut, **fields})


@register("resnet{depth}_torchvision", ResNet, TORCHVISION)
def resnet_torchvision(depth: int, **fields: Any) -> ResNet:
    """He et al. 2015 as in torchvision: option B throughout, a bottleneck's stride in its 3x3."""
    if depth not in TORCHVISION:
        raise UserError(f"resnet{depth}_torchvision: depth must be one of {enumerate_values(TORCHVISION)}")
    return ResNet(**{**imagenet_shape(depth), "shortcut": "B", "strides_at": "3x3", **fields})


def residual_shape(family: str, depth: int) -> dict[str, Any]:
    """Return stages, block, stem, width and classes of a residual net, ImageNet's or CIFAR's by its depth."""
    if depth in IMAGENET_STAGES:
        return imagenet_shape(depth)
    blocks, rest = divmod(depth - 2, 9)
    if depth in CIFAR_BOTTLENECK or ((depth - 2) % 6 and not rest and blocks > 0):
        return {"stage_sizes": (blocks,) * 3, "block": "bottleneck"}
    return cifar_shape(family, depth, IMAGENET_STAGES, "6n + 2 or 9n + 2")


def imagenet_shape(depth: int) -> dict[str, Any]:
    """Return stages, block, stem, width and classes of an ImageNet net (He et al. 2015, table 1)."""
    return {
        "stage_sizes": IMAGENET_STAGES[depth],
        "block": "basic" if depth < 50 else "bottleneck",
        "stem": "imagenet",
        "width": 64,
        "num_classes": 1000,
    }


def bottleneck_shape(name: str, depth: int, others: str = "") -> dict[str, Any]:
    """Return `imagenet_shape` of the bottleneck net called `name`; raises UserError for other depths."""
    depths = [depth for depth in IMAGENET_STAGES if depth >= 50]
    if depth not in depths:
        raise UserError(f"{name}: depth must be one of {enumerate_values(depths)}{others and ' ' + others}")
    return imagenet_shape(depth)


def cifar_shape(
    family: str, depth: int, imagenet: Iterable[int] = (), forms: str = "6n + 2"
) -> dict[str, Any]:
    """Return stages and block of a CIFAR net of basic blocks, 6n + 2 layers deep.

    Raises:
        UserError: the depth is another; the message gives the `forms` of valid depths, and ImageNet's.
    """
    note = f" and none of ImageNet's {enumerate_values(imagenet)}" if imagenet else ""
    return {"stage_sizes": (blocks_in(family, depth, 6, 2, forms=forms, note=note),) * 3, "block": "basic"}


def enumerate_values(values: Iterable[int]) -> str:
    """Return the numbers, separated by commas."""
    return ", ".join(map(str, values))
