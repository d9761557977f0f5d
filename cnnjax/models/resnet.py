"""Plain and residual networks, for CIFAR and ImageNet.

He, Zhang, Ren and Sun, "Deep Residual Learning for Image Recognition", 2015 (arXiv 1512.03385): the ImageNet
nets of table 1, the CIFAR-10 nets of section 4.2 and the plain nets that both are compared with. ResNet-164
and ResNet-1001 are the post-activation bottleneck nets that He et al. 2016 (arXiv 1603.05027, table 3)
compare with.

A plain net is a residual net without its shortcuts: one class, one field. The shortcut options are the
paper's (section 4.1): with A a shortcut never has weights, subsampling in space and padding the channels with
zeros; with B it is a 1x1 convolution where the shape changes; with C it always is. The defaults are what the
paper's experiments used: A for basic blocks (tables 2 and 6), B for bottlenecks (section 4.1, "deeper
bottleneck architectures"). Torchvision has B throughout and moves a bottleneck's stride from the first 1x1 to
the 3x3 convolution; `resnet{depth}_torchvision` are those nets.

The paper does not print three things; they are taken from the authors' released code: kernels drawn from
N(0, 2 / (k * k * c_out)), BatchNorm's epsilon 1e-5, and running averages (decay 0.9) at test time.

A depth belongs to ImageNet when the paper has it there (18, 34, 50, 101, 152), otherwise to CIFAR (6n + 2).
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from cnnjax.errors import UserError
from cnnjax.models.registry import register
from cnnjax.ops.conv import CONVOLUTIONS
from cnnjax.ops.depth import LOOPS, repeat
from cnnjax.ops.init import he_normal, he_normal_fan_in
from cnnjax.ops.norm import BatchNorm

Template = Callable[..., Any]


class NoShortcut(nn.Module):
    """A plain net: the branch alone."""

    conv: Template
    norm: Template

    @nn.compact
    def __call__(self, x: jax.Array, branch: jax.Array) -> jax.Array:
        """Join the block's input `x` and its `branch`, both [batch, height, width, channel]."""
        return branch


class ZeroPadShortcut(NoShortcut):
    """Option A: the identity; where the shape changes, every other pixel and zeros as the new channels."""

    @nn.compact
    def __call__(self, x: jax.Array, branch: jax.Array) -> jax.Array:
        """Join the block's input `x` and its `branch`, both [batch, height, width, channel]."""
        strides = _strides(x, branch)
        x = x[:, ::strides, ::strides]
        return branch + jnp.pad(x, ((0, 0), (0, 0), (0, 0), (0, branch.shape[-1] - x.shape[-1])))


class ProjectionShortcut(NoShortcut):
    """Option C: always a 1x1 convolution and its BatchNorm."""

    @nn.compact
    def __call__(self, x: jax.Array, branch: jax.Array) -> jax.Array:
        """Join the block's input `x` and its `branch`, both [batch, height, width, channel]."""
        x = self.conv(branch.shape[-1], (1, 1), _strides(x, branch), padding=0, name="conv")(x)
        return branch + self.norm(name="bn")(x)


class ProjectionWhereNeeded(ProjectionShortcut):
    """Option B: the identity; where the shape changes, a 1x1 convolution and its BatchNorm."""

    @nn.compact
    def __call__(self, x: jax.Array, branch: jax.Array) -> jax.Array:
        """Join the block's input `x` and its `branch`, both [batch, height, width, channel]."""
        return branch + x if x.shape == branch.shape else super().__call__(x, branch)


def _strides(x: jax.Array, branch: jax.Array) -> int:
    return -(-x.shape[1] // branch.shape[1])


SHORTCUTS = {"none": NoShortcut, "A": ZeroPadShortcut, "B": ProjectionWhereNeeded, "C": ProjectionShortcut}


class BasicBlock(nn.Module):
    """Two 3x3 convolutions (figure 5, left)."""

    filters: int
    strides: int
    conv: Template
    norm: Template
    shortcut: Template

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[batch, height, width, channel] to [batch, height / strides, width / strides, filters]."""
        y = self.conv(self.filters, (3, 3), self.strides, padding=1, name="conv1")(x)
        y = nn.relu(self.norm(name="bn1")(y))
        y = self.conv(self.filters, (3, 3), 1, padding=1, name="conv2")(y)
        y = self.norm(name="bn2")(y)
        return nn.relu(self.shortcut(name="shortcut")(x, y))


class Bottleneck(nn.Module):
    """1x1 down, 3x3, 1x1 up to four times the filters (figure 5, right).

    `strides_at` names the convolution that has the stride: "1x1" in the paper, "3x3" in torchvision.
    """

    filters: int
    strides: int
    conv: Template
    norm: Template
    shortcut: Template
    strides_at: str = "1x1"

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[batch, height, width, channel] to [batch, height / strides, width / strides, 4 * filters]."""
        strides = {"1x1": 1, "3x3": 1, self.strides_at: self.strides}
        y = self.conv(self.filters, (1, 1), strides["1x1"], padding=0, name="conv1")(x)
        y = nn.relu(self.norm(name="bn1")(y))
        y = self.conv(self.filters, (3, 3), strides["3x3"], padding=1, name="conv2")(y)
        y = nn.relu(self.norm(name="bn2")(y))
        y = self.conv(4 * self.filters, (1, 1), 1, padding=0, name="conv3")(y)
        y = self.norm(name="bn3")(y)
        return nn.relu(self.shortcut(name="shortcut")(x, y))


def cifar_stem(x: jax.Array, filters: int, conv: Template, norm: Template) -> jax.Array:
    """3x3 convolution at full resolution (section 4.2)."""
    x = conv(filters, (3, 3), 1, padding=1, name="conv1")(x)
    return nn.relu(norm(name="bn1")(x))


def imagenet_stem(x: jax.Array, filters: int, conv: Template, norm: Template) -> jax.Array:
    """7x7 convolution and 3x3 max pooling, both with stride 2 (table 1)."""
    x = conv(filters, (7, 7), 2, padding=3, name="conv1")(x)
    x = nn.relu(norm(name="bn1")(x))
    padding: Any = ((1, 1), (1, 1))  # Flax takes it; its annotation does not
    return nn.max_pool(x, (3, 3), (2, 2), padding)


STEMS = {"cifar": cifar_stem, "imagenet": imagenet_stem}
BLOCKS = {"basic": BasicBlock, "bottleneck": Bottleneck}


class ResNet(nn.Module):
    """Stages of equal blocks; each stage halves the resolution and doubles the filters.

    Attributes:
        stage_sizes: blocks in each stage.
        block: "basic" or "bottleneck".
        shortcut: "none" (plain net), "A", "B" or "C" (the paper's options).
        stem: "cifar" or "imagenet".
        width: filters of the first stage.
        strides_at: which convolution of a bottleneck has the stride, "1x1" or "3x3".
        num_classes: outputs of the classifier.
        bn_momentum: decay of BatchNorm's running averages.
        bn_epsilon: what BatchNorm adds to the variance.
        dtype: of the convolutions; parameters, statistics and logits stay float32.
        loop: over a stage's equal blocks, "scan", "unrolled" or "auto" (`cnnjax.ops.depth`).
        remat: whether the backward pass recomputes a block's activations, to save memory.
        convolution: "auto" or "native", XLA's own, which has forward-mode derivatives (`cnnjax.ops.conv`).
    """

    stage_sizes: tuple[int, ...]
    block: str = "basic"
    shortcut: str = "A"
    stem: str = "cifar"
    width: int = 16
    strides_at: str = "1x1"
    num_classes: int = 10
    bn_momentum: float = 0.9
    bn_epsilon: float = 1e-5
    dtype: Any = jnp.float32
    loop: str = "auto"
    remat: bool = False
    convolution: str = "auto"

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """[height, width, channel] of the images that the paper has for it."""
        return (32, 32, 3) if self.stem == "cifar" else (224, 224, 3)

    def __post_init__(self) -> None:
        for field, values in {
            "block": BLOCKS,
            "shortcut": SHORTCUTS,
            "stem": STEMS,
            "strides_at": ("1x1", "3x3"),
            "loop": LOOPS,
            "convolution": CONVOLUTIONS,
        }.items():
            if (value := getattr(self, field)) not in values:
                raise UserError(f"{field}={value!r}: must be one of {', '.join(values)}")
        for field in ("width", "num_classes"):
            if getattr(self, field) < 1:
                raise UserError(f"{field}={getattr(self, field)}: must be at least 1")
        super().__post_init__()

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Images [batch, height, width, channel] to logits [batch, num_classes], float32."""
        conv = partial(
            nn.Conv,
            use_bias=False,
            kernel_init=he_normal,
            dtype=self.dtype,
            conv_general_dilated=CONVOLUTIONS[self.convolution],
        )
        norm = partial(
            BatchNorm,
            use_running_average=not train,
            momentum=self.bn_momentum,
            epsilon=self.bn_epsilon,
            dtype=self.dtype,
        )
        shortcut = partial(SHORTCUTS[self.shortcut], conv=conv, norm=norm)
        block_class = nn.remat(BLOCKS[self.block]) if self.remat else BLOCKS[self.block]
        block = partial(block_class, conv=conv, norm=norm, shortcut=shortcut)
        if self.block == "bottleneck":
            block = partial(block, strides_at=self.strides_at)

        x = STEMS[self.stem](x.astype(self.dtype), self.width, conv, norm)
        digits = max(2, len(str(max(self.stage_sizes))))
        for stage, blocks in enumerate(self.stage_sizes, start=1):
            filters = self.width * 2 ** (stage - 1)
            first, *rest = (f"stage{stage}_block{index:0{digits}d}" for index in range(1, blocks + 1))
            x = block(filters, 1 if stage == 1 else 2, name=first)(x)
            x = repeat(self, partial(block, filters, 1), rest, x, self.loop)
        x = x.mean((1, 2))
        x = nn.Dense(self.num_classes, kernel_init=he_normal_fan_in, dtype=self.dtype, name="classifier")(x)
        return x.astype(jnp.float32)


IMAGENET_STAGES = {
    18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)
}  # fmt: skip
IMAGENET_PLAIN = (18, 34)
CIFAR_BOTTLENECK = (164, 1001)
CIFAR = (20, 32, 44, 56, 110, 1202)


@register("plain{depth}", ResNet, (*IMAGENET_PLAIN, *CIFAR))
def plain(depth: int, **fields: Any) -> ResNet:
    """He et al. 2015, plain net (CIFAR: any 6n + 2; ImageNet: 18, 34)."""
    if depth in IMAGENET_PLAIN:
        return _imagenet(depth, **{"shortcut": "none", **fields})
    return _cifar("plain", depth, **{"shortcut": "none", **fields})


@register("resnet{depth}", ResNet, (*IMAGENET_STAGES, *CIFAR, *CIFAR_BOTTLENECK))
def resnet(depth: int, **fields: Any) -> ResNet:
    """He et al. 2015, residual net (CIFAR: any 6n + 2; ImageNet: 18, 34, 50, 101, 152)."""
    if depth in IMAGENET_STAGES:
        return _imagenet(depth, **fields)
    if depth in CIFAR_BOTTLENECK:
        stages = ((depth - 2) // 9,) * 3
        return ResNet(**{"stage_sizes": stages, "block": "bottleneck", "shortcut": "B", **fields})
    return _cifar("resnet", depth, **fields)


@register("resnet{depth}_torchvision", ResNet, IMAGENET_STAGES)
def resnet_torchvision(depth: int, **fields: Any) -> ResNet:
    """He et al. 2015 as torchvision has it: option B throughout, a bottleneck's stride in its 3x3."""
    if depth not in IMAGENET_STAGES:
        raise UserError(f"resnet{depth}_torchvision: depth must be one of {_enumerate(IMAGENET_STAGES)}")
    return _imagenet(depth, **{"shortcut": "B", "strides_at": "3x3", **fields})


def _imagenet(depth: int, **fields: Any) -> ResNet:
    block, shortcut = ("basic", "A") if depth < 50 else ("bottleneck", "B")
    defaults = {
        "stage_sizes": IMAGENET_STAGES[depth],
        "block": block,
        "shortcut": shortcut,
        "stem": "imagenet",
        "width": 64,
        "num_classes": 1000,
    }
    return ResNet(**{**defaults, **fields})


def _cifar(family: str, depth: int, **fields: Any) -> ResNet:
    blocks, rest = divmod(depth - 2, 6)
    if rest or blocks < 1:
        below, above = max(8, 6 * blocks + 2), max(8, 6 * blocks + 8)
        near = f"{family}{below}" if below == above else f"{family}{below} and {family}{above}"
        imagenet = IMAGENET_PLAIN if family == "plain" else tuple(IMAGENET_STAGES)
        raise UserError(
            f"{family}{depth}: depth {depth} is not 6n + 2 (nearest: {near}) "
            f"and none of ImageNet's {_enumerate(imagenet)}"
        )
    return ResNet(**{"stage_sizes": (blocks,) * 3, **fields})


def _enumerate(values: Any) -> str:
    return ", ".join(map(str, values))
