"""VGG nets.

Simonyan and Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition", 2014 (arXiv
1409.1556), table 1: `vgg11`, `vgg13`, `vgg16` and `vgg19` are its columns A, B, D and E, `vgg11_lrn` is A-LRN
and `vgg_c` is C, whose third convolutions are 1x1. Names that end in `_bn` have BatchNorm after every
convolution, which keeps its bias, as in torchvision; the paper has no BatchNorm.

The paper draws weights from N(0, 0.01), where 0.01 is the *variance* (section 3.1), and starts biases at 0.
Nets deeper than A then got their outer layers from a trained A; a footnote says that Glorot and Bengio's
distribution makes this unnecessary. These are `kernel_init="paper"` and `"glorot"`; `"torchvision"` draws
kernels from N(0, 2 / (k * k * c_out)) and fully connected layers from N(0, 0.01 * 0.01). Torchvision's nets
are otherwise the same, except for its adaptive pooling, which does nothing for images of 224x224. The paper's
pixels are from 0 to 255, less their mean (`normalize="raw_mean"`); torchvision's are standardised.

`head="cifar"` is not in the paper: the five poolings reduce 32x32 to one pixel, and a single linear layer
classifies it, without dropout. With fewer `stages` the heads fit smaller images: with two, 28x28 and 4x4.

Larger images are classified densely (section 3.2): the fully connected layers, as convolutions, see every
place of the last map, and the logits are averaged over places. `cnnjax evaluate --crops dense` tests so.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any, ClassVar

import jax
from flax import linen as nn

from cnnjax.errors import UserError
from cnnjax.models.checks import check_at_least_one, check_rates
from cnnjax.models.network import BatchNormNetwork
from cnnjax.models.registry import register
from cnnjax.ops.activations import ACTIVATIONS
from cnnjax.ops.init import he_normal, normal
from cnnjax.ops.lrn import ALPHA_PER, local_response_norm
from cnnjax.ops.places import at_every_place, mean_over_places
from cnnjax.ops.pooling import max_pool

GLOROT = nn.initializers.glorot_uniform()
INITS = {
    "paper": (normal(0.1), normal(0.1)),
    "glorot": (GLOROT, GLOROT),
    "torchvision": (he_normal, normal(0.01)),
}
"""The initialisers of convolutions and of fully connected layers, by name."""
NORMS = ("none", "lrn", "batch")
MAPS = {"imagenet": 7, "cifar": 1}
"""The side of the last maps that a head fits."""


class VGG(BatchNormNetwork, kw_only=True):
    """Five stages of 3x3 convolutions, 2x2 max pooling after each, and the head.

    Attributes:
        stages: for each stage the sizes of the kernels.
        norm: "none", "lrn" (after the first convolution only) or "batch" (after every one).
        head: "imagenet", three fully connected layers, or "cifar", one.
        kernel_init: "paper", "glorot" or "torchvision".
        width: filters of the first stage; all other layers keep their ratio to it.
        lrn_alpha_per: whether "lrn" multiplies its alpha by the "sum" or the "mean" of the squares.
        dropout: rate after each hidden fully connected layer.
    """

    stages: tuple[tuple[int, ...], ...]
    norm: str = "none"
    head: str = "imagenet"
    kernel_init: str = "paper"
    width: int = 64
    num_classes: int = 1000
    lrn_alpha_per: str = "sum"
    dropout: float = 0.5

    choices: ClassVar[Mapping[str, Any]] = {
        **BatchNormNetwork.choices,
        "norm": NORMS,
        "head": MAPS,
        "kernel_init": INITS,
        "lrn_alpha_per": ALPHA_PER,
    }

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """[height, width, channel] of the images that fit the head."""
        side = MAPS[self.head] * 2 ** len(self.stages)
        return side, side, 3

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least_one(self, "width")
        check_rates(self, "dropout")

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Images [batch, 224, 224, channel], or 32x32 with the CIFAR head, to logits [batch, num_classes].

        Of larger images they are the mean over the places of a window of that size, 32 pixels apart.

        Raises:
            UserError: the images are smaller.
        """
        side, *_ = self.input_shape
        if min(x.shape[1:3]) < side:
            raise UserError(
                f"vgg takes images of at least 224x224, or 32x32 with head='cifar': not "
                f"{x.shape[1]}x{x.shape[2]} with head={self.head!r} and {len(self.stages)} stages"
            )
        conv_init, dense_init = INITS[self.kernel_init]
        conv, dense = self.conv(kernel_init=conv_init), self.dense(kernel_init=dense_init)
        norm = self.batch_norm(train)
        dropout = partial(nn.Dropout, self.dropout, deterministic=not train)
        act = ACTIVATIONS[self.activation]

        for stage, sizes in enumerate(self.stages, start=1):
            filters = self.width * min(8, 2 ** (stage - 1))
            for index, size in enumerate(sizes, start=1):
                x = conv(filters, (size, size), padding=size // 2, name=f"stage{stage}_conv{index}")(x)
                if self.norm == "batch":
                    x = norm(name=f"stage{stage}_bn{index}")(x)
                x = act(name=f"stage{stage}_act{index}")(x)
                if self.norm == "lrn" and stage == index == 1:
                    x = local_response_norm(x, 5, 1e-4, 0.75, 2.0, self.lrn_alpha_per)
            x = max_pool(x, 2, 2)
        x = at_every_place(x, MAPS[self.head])
        if self.head == "cifar":
            return mean_over_places(self.classify(x, dense_init))
        for index in (1, 2):
            x = dense(64 * self.width, name=f"fc{index}")(x)
            x = dropout()(act(name=f"act{index}")(x))
        return mean_over_places(self.classify(x, dense_init, name="fc3"))


STAGES = {
    11: ((3,), (3,), (3, 3), (3, 3), (3, 3)),
    13: ((3, 3),) * 5,
    16: ((3, 3), (3, 3), (3, 3, 3), (3, 3, 3), (3, 3, 3)),
    19: ((3, 3), (3, 3), (3, 3, 3, 3), (3, 3, 3, 3), (3, 3, 3, 3)),
}
STAGES_C = ((3, 3), (3, 3), (3, 3, 1), (3, 3, 1), (3, 3, 1))


@register("vgg{depth}", VGG, STAGES)
def vgg(depth: int, **fields: Any) -> VGG:
    """Simonyan and Zisserman 2014, table 1: A (11), B (13), D (16) and E (19)."""
    return _vgg(**{"stages": _stages(f"vgg{depth}", depth), **fields})


@register("vgg{depth}_bn", VGG, STAGES)
def vgg_bn(depth: int, **fields: Any) -> VGG:
    """Simonyan and Zisserman 2014, with BatchNorm after every convolution as in torchvision."""
    return _vgg(**{"stages": _stages(f"vgg{depth}_bn", depth), "norm": "batch", **fields})


@register("vgg11_lrn", VGG)
def vgg11_lrn(**fields: Any) -> VGG:
    """Simonyan and Zisserman 2014, table 1: A-LRN."""
    return _vgg(**{"stages": STAGES[11], "norm": "lrn", **fields})


@register("vgg_c", VGG)
def vgg_c(**fields: Any) -> VGG:
    """Simonyan and Zisserman 2014, table 1: C, 16 layers of which three are 1x1."""
    return _vgg(**{"stages": STAGES_C, **fields})


@register("vgg_c_bn", VGG)
def vgg_c_bn(**fields: Any) -> VGG:
    """Simonyan and Zisserman 2014, table 1: C, with BatchNorm after every convolution."""
    return _vgg(**{"stages": STAGES_C, "norm": "batch", **fields})


def _stages(name: str, depth: int) -> tuple[tuple[int, ...], ...]:
    if depth not in STAGES:
        raise UserError(f"{name}: depth must be one of {', '.join(map(str, STAGES))}, or try vgg_c")
    return STAGES[depth]


def _vgg(**fields: Any) -> VGG:
    num_classes = 10 if fields.get("head") == "cifar" else 1000
    return VGG(**{"num_classes": num_classes, **fields})
