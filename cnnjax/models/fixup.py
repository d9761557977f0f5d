"""Residual networks that train without normalisation: Fixup and SkipInit.

Zhang, Dauphin and Ma, "Fixup Initialization: Residual Learning Without Normalization", 2019 (arXiv
1901.09321): `fixup_resnet{depth}`. The classifier and the last convolution of a branch start at 0; its other
m - 1 convolutions start as He et al.'s times L^(-1 / (2m - 2)), with L the number of blocks. A scalar bias
comes before each convolution, each activation and the classifier, and a scalar factor at the end of each
branch (section 3).
Shortcuts are A for CIFAR and bare 1x1 convolutions for ImageNet, with the stride of a bottleneck in its 3x3,
as in the authors' code. That code leaves the first convolution to PyTorch's default; here it is He et al.'s,
as in the paper. The code trains the scalars with a tenth of the learning rate (here
`groups={"*/bias": {"rate": 0.1}, "*/scale": {"rate": 0.1}}`).

Nothing rescales the images, and the classifier starts at 0, so that training starts slowly on dim images and
with a low rate. Measured with `fixup_resnet56`, width 8: training error after 300 steps of SGD (momentum 0.9,
cosine after a linear warm-up, batch 128; Fashion-MNIST at 14x14, one seed):

- pixels of variance 1 (`normalize="channel"`), scalars at a tenth: 52 % at the rate 0.02, 31 % at 0.05, 26 %
  at 0.1, chance at 0.15; scalars at the full rate: 36 % at 0.05;
- pixels minus their mean, of standard deviation 0.27, scalars at a tenth: 56 % at 0.05 (29 % after 600
  steps), chance at 0.1; scalars at the full rate: chance at 0.05, divergence at 0.1.

De and Smith, "Batch Normalization Biases Residual Blocks Towards the Identity Function in Deep Networks",
2020 (arXiv 2002.10444): `skipinit_resnet{depth}`, pre-activation nets with biases and one scalar factor at
the end of each branch, initially `alpha`, in place of BatchNorm. They recommend dropout of 0.6 before the
classifier of wide nets (`dropout`, off by default).
"""

from collections.abc import Mapping
from functools import partial
from typing import Any, ClassVar

import jax
from flax import linen as nn

from cnnjax.models.checks import check_rates
from cnnjax.models.network import Template
from cnnjax.models.orders import Original
from cnnjax.models.preresnet import preresnet_fields
from cnnjax.models.registry import register
from cnnjax.models.resnet import IMAGENET_STAGES, ResNet, residual_shape
from cnnjax.ops.init import he_normal_fan_in
from cnnjax.ops.precision import wide


class Scale(nn.Module):
    """A trainable factor, the same for all elements."""

    initial: float = 1.0

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Any shape to the same."""
        scale = self.param("scale", nn.initializers.constant(self.initial), (), wide(x.dtype))
        return x * scale.astype(x.dtype)


class Shift(nn.Module):
    """A trainable bias that starts at 0, the same for all elements."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Any shape to the same."""
        return x + self.param("bias", nn.initializers.zeros, (), wide(x.dtype)).astype(x.dtype)


class FixupOrder(Original):
    """Bias, convolution, bias, ReLU, bias, convolution, factor, bias, addition, ReLU (figure 1, right)."""

    def stem(self, y: jax.Array, index: int) -> jax.Array:
        """Bias and ReLU."""
        return self.activation(name=f"act{index}")(Shift(name=f"bias{index}")(y))

    def before(self, x: jax.Array, index: int | str = 1) -> jax.Array:
        """Bias."""
        return Shift(name=f"bias{index}_in")(x)

    def between(self, y: jax.Array, index: int) -> jax.Array:
        """Bias, ReLU, bias."""
        y = self.activation(name=f"act{index}")(Shift(name=f"bias{index}_out")(y))
        return Shift(name=f"bias{index + 1}_in")(y)

    def last(self, y: jax.Array, index: int) -> jax.Array:
        """Factor and bias."""
        return Shift(name=f"bias{index}_out")(Scale(name="scale")(y))


class FixupResNet(ResNet, kw_only=True):
    """A residual net with Fixup in place of BatchNorm."""

    order: str = "fixup"
    norm: str = "fixup"

    choices: ClassVar[Mapping[str, Any]] = {
        **ResNet.choices,
        "order": {"fixup": FixupOrder},
        "norm": ("fixup",),
        "shortcut": {name: ResNet.choices["shortcut"][name] for name in ("A", "A_pooled", "B_without_bn")},
    }
    stem_activates: ClassVar[bool] = False

    def branch_templates(self, conv: Template) -> dict[str, Template]:
        """Scale He et al.'s kernels, and start those of a branch's last convolution at 0."""
        factor = sum(self.stage_sizes) ** (-1 / (2 * self.block_class().depth - 2))
        scaled = partial(_scaled, self.kernel_initializer(), factor)
        return {
            "conv": partial(conv, kernel_init=scaled),
            "last_conv": partial(conv, kernel_init=nn.initializers.zeros),
        }

    def head(self, x: jax.Array, train: bool) -> jax.Array:
        """Features [batch, height, width, channel] to logits."""
        return self.classify(x.mean((1, 2)), nn.initializers.zeros)


def _scaled(init: Any, factor: float, *arguments: Any) -> jax.Array:
    return factor * init(*arguments)


class SkipInitResNet(ResNet, kw_only=True):
    """A residual net with SkipInit in place of BatchNorm.

    Attributes:
        alpha: initial factor of the branches, 0 or 1 / sqrt(blocks) in the paper.
        dropout: rate before the classifier.
    """

    norm: str = "none"
    alpha: float = 0.0
    dropout: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_rates(self, "dropout")

    def refine(self) -> Template:
        """Return a template of the factor at the end of each branch."""
        return partial(Scale, self.alpha, name="alpha")

    def head(self, x: jax.Array, train: bool) -> jax.Array:
        """Features [batch, height, width, channel] to logits."""
        x = nn.Dropout(self.dropout, deterministic=not train)(x.mean((1, 2)))
        return self.classify(x, he_normal_fan_in)


@register("fixup_resnet{depth}", FixupResNet, (20, 32, 44, 56, 110, 1202, 50, 101))
def fixup_resnet(depth: int, **fields: Any) -> FixupResNet:
    """Zhang et al. 2019, Fixup (CIFAR: any 6n + 2 or 9n + 2; ImageNet: 18, 34, 50, 101, 152, 200)."""
    shape = residual_shape("fixup_resnet", depth)
    shortcut = "A" if depth not in IMAGENET_STAGES and shape["block"] == "basic" else "B_without_bn"
    return FixupResNet(**{**shape, "shortcut": shortcut, "strides_at": "3x3", **fields})


@register("skipinit_resnet{depth}", SkipInitResNet, (50,))
def skipinit_resnet(depth: int, **fields: Any) -> SkipInitResNet:
    """De & Smith 2020, SkipInit (the depths of `preresnet{depth}`)."""
    return SkipInitResNet(**{**preresnet_fields("skipinit_resnet", depth), **fields})
