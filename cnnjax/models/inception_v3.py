"""Inception-v3: factorised convolutions, and an auxiliary head with batch normalisation.

Szegedy, Vanhoucke, Ioffe, Shlens and Wojna, "Rethinking the Inception Architecture for Computer Vision", 2015
(arXiv 1512.00567), table 1 as the authors released it; the table leaves the modules' widths open. Modules
have the released code's names: 5b to 5d are figure 5's, 6b to 6e figure 6's with n = 7, 7b and 7c figure 7's;
6a and 7a halve the resolution. There are 23,834,568 parameters, 27,161,264 with the auxiliary head.

As in that code kernels start as a truncated normal of deviation 0.1 (in the auxiliary head 0.01 for the 5x5
convolution and 0.001 for the classifier), BatchNorm has epsilon 1e-3, average pooling leaves the padding out
of its means, dropout is 0.2, and the auxiliary loss, whose weight the paper does not print, has weight 0.4.
BatchNorm's decay is 0.9 here, 0.9997 there.

`inception_v3_torchvision` has the same parameters; its average pooling counts the padding as zeros, dropout
is 0.5, and its normals are not truncated. Preprocessing (`transform_input`) is not part of the network.

`whole` undoes factorisations (sections 3.1 and 3.2): with "5x5" two 3x3 convolutions in a row are one of 5x5
again, as in figure 4; with "7x7" a 1x7 and a 7x1 are one of 7x7. `stem="small"`, one 3x3 convolution, is
ours, for images of 7x7 or more.
"""

from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import Any, ClassVar

import jax
from flax import linen as nn

from cnnjax.errors import UserError
from cnnjax.models.checks import check_at_least_one, check_image_size, check_rates
from cnnjax.models.googlenet import Conv, Fork, Inception, LayerTemplates, Step, scaled, sow_logits
from cnnjax.models.network import BatchNormNetwork, Template
from cnnjax.models.registry import register
from cnnjax.ops.activations import ACTIVATIONS
from cnnjax.ops.init import normal, truncated_normal
from cnnjax.ops.pooling import average_pool, max_pool

Branches = tuple[tuple[Step, ...], ...]
downsample = partial(max_pool, size=3, strides=2)
valid = partial(Conv, padded=False)


def square(average: Step, projection: int) -> Branches:
    """Return figure 5's branches: one with a 5x5 convolution, one with two 3x3 instead."""
    return (
        (Conv(64),),
        (Conv(48), Conv(64, 5)),
        (Conv(64), Conv(96, 3), Conv(96, 3)),
        (average, Conv(projection)),
    )


def factorised(average: Step, c: int) -> Branches:
    """Return figure 6's branches: 7x7 convolutions as 1x7 and 7x1, with `c` filters inside."""
    row, column = (1, 7), (7, 1)
    return (
        (Conv(192),),
        (Conv(c), Conv(c, row), Conv(192, column)),
        (Conv(c), Conv(c, column), Conv(c, row), Conv(c, column), Conv(192, row)),
        (average, Conv(192)),
    )


def expanded(average: Step) -> Branches:
    """Return figure 7's branches, for the coarsest maps: their last convolutions are side by side."""
    fork = Fork(Conv(384, (1, 3)), Conv(384, (3, 1)))
    return (
        (Conv(320),),
        (Conv(384), fork),
        (Conv(448), Conv(384, 3), fork),
        (average, Conv(192)),
    )


def modules(average: Step) -> dict[str, Branches]:
    """Return the branches of each module by name."""
    return {
        "5b": square(average, 32),
        "5c": square(average, 64),
        "5d": square(average, 64),
        "6a": (
            (valid(384, 3, 2),),
            (Conv(64), Conv(96, 3), valid(96, 3, 2)),
            (downsample,),
        ),
        "6b": factorised(average, 128),
        "6c": factorised(average, 160),
        "6d": factorised(average, 160),
        "6e": factorised(average, 192),
        "7a": (
            (Conv(192), valid(320, 3, 2)),
            (Conv(192), Conv(192, (1, 7)), Conv(192, (7, 1)), valid(192, 3, 2)),
            (downsample,),
        ),
        "7b": expanded(average),
        "7c": expanded(average),
    }


FACTORS = {
    "5x5": {(3, 3): 5},
    "7x7": {((1, 7), (7, 1)): 7, ((7, 1), (1, 7)): 7},
}
"""By the size of a convolution: the sizes of the two that replace it."""


def undo(branches: Branches, whole: Collection[str]) -> Branches:
    """Return the branches with one convolution for every two that factorise it, of the sizes `whole`.

    It has the filters of the second one, and both must be padded and keep the size.
    """
    sizes = {pair: size for name in whole for pair, size in FACTORS[name].items()}

    def merge(steps: tuple[Step, ...]) -> tuple[Step, ...]:
        merged: list[Step] = []
        for step in steps:
            last = merged[-1] if merged else None
            if isinstance(step, Conv) and isinstance(last, Conv) and step.padded and last.padded:
                size = sizes.get((last.size, step.size))
                if size is not None and step.strides == last.strides == 1:
                    merged[-1] = Conv(step.filters, size)
                    continue
            merged.append(step)
        return tuple(merged)

    return tuple(map(merge, branches))


class AuxiliaryHead(nn.Module):
    """A classifier on top of the last 17x17 module, for training."""

    num_classes: int
    layers: LayerTemplates
    layers_5x5: LayerTemplates
    classifier: Template

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[batch, height, width, channel] to logits [batch, num_classes], which it also sows."""
        x = self.layers(average_pool(x, 5, 3), Conv(128), 1)
        x = self.layers_5x5(x, valid(768, 5), 2)
        return sow_logits(self, self.classifier(self.num_classes, name="fc")(x.mean((1, 2))))


def imagenet_stem(layers: LayerTemplates, x: jax.Array) -> jax.Array:
    """Apply table 1's first rows to images: an eighth of the side."""
    x = layers(x, valid(32, 3, 2), 1)
    x = layers(x, valid(32, 3), 2)
    x = layers(x, Conv(64, 3), 3)
    x = downsample(x)
    x = layers(x, valid(80), 4)
    x = layers(x, valid(192, 3), 5)
    return downsample(x)


def small_stem(layers: LayerTemplates, x: jax.Array) -> jax.Array:
    """Apply a single convolution to images: the same side."""
    return layers(x, Conv(192, 3), 1)


STEMS: Mapping[str, Callable[[LayerTemplates, jax.Array], jax.Array]] = {
    "imagenet": imagenet_stem,
    "small": small_stem,
}
KERNEL_INITS = {"truncated_normal": truncated_normal, "normal": normal}


class InceptionV3(BatchNormNetwork, kw_only=True):
    """Five convolutions and eleven modules at three resolutions, and an auxiliary classifier.

    Attributes:
        aux_heads: whether module 6e has an auxiliary classifier, which leaves its logits in the collection
            "auxiliary" in training.
        auxiliary_weight: weight of its loss.
        count_padding: whether average pooling counts its padding as zeros.
        dropout: rate before the classifier.
        kernel_init: "truncated_normal" or "normal".
        width: filters of the first convolution.
        stem: the layers before the modules, "imagenet", or "small", a single convolution.
        whole: the factorised convolutions that are not, of "5x5" and "7x7".
        remat: whether the backward pass recomputes a module's activations, to save memory.
    """

    aux_heads: bool = True
    auxiliary_weight: float = 0.4
    count_padding: bool = False
    dropout: float = 0.2
    kernel_init: str = "truncated_normal"
    width: int = 32
    num_classes: int = 1000
    bn_epsilon: float = 1e-3
    stem: str = "imagenet"
    whole: tuple[str, ...] = ()
    remat: bool = False

    choices: ClassVar[Mapping[str, Any]] = {
        **BatchNormNetwork.choices,
        "kernel_init": KERNEL_INITS,
        "stem": STEMS,
    }
    input_shape: ClassVar[tuple[int, int, int]] = (299, 299, 3)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least_one(self, "width")
        check_rates(self, "dropout")
        if not set(self.whole) <= set(FACTORS):
            raise UserError(f"whole={self.whole}: must be of {', '.join(FACTORS)}")

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Images [batch, height, width, channel] to logits [batch, num_classes], float32 or wider.

        Raises:
            UserError: the images are too small, or too small for the auxiliary head that training needs.
        """
        heads = self.aux_heads and (train or self.is_initializing())
        check_image_size(x, 75 if self.stem == "imagenet" else 7)
        if heads:
            check_image_size(x, 299, note="for the auxiliary head; aux_heads=False takes others")

        init = KERNEL_INITS[self.kernel_init]
        norm = self.batch_norm(train)

        def layers_from(std: float) -> LayerTemplates:
            conv = partial(scaled, self.conv(use_bias=False, kernel_init=init(std)), self.width / 32)
            return LayerTemplates(conv, norm, ACTIVATIONS[self.activation])

        layers = layers_from(0.1)
        inception = nn.remat(Inception) if self.remat else Inception
        average = partial(average_pool, size=3, strides=1, padding=1, count_padding=self.count_padding)

        x = STEMS[self.stem](layers, x.astype(self.dtype))
        for module, branches in modules(average).items():
            x = inception(undo(branches, self.whole), layers, name=f"inception{module}")(x)
            if module == "6e" and heads:
                AuxiliaryHead(
                    self.num_classes,
                    layers,
                    layers_from(0.01),
                    self.dense(kernel_init=init(0.001)),
                    name="auxiliary",
                )(x)
        x = nn.Dropout(self.dropout, deterministic=not train)(x.mean((1, 2)))
        return self.classify(x, init(0.1))


@register("inception_v3", InceptionV3)
def inception_v3(**fields: Any) -> InceptionV3:
    """Szegedy et al. 2015, Inception-v3."""
    return InceptionV3(**fields)


@register("inception_v3_torchvision", InceptionV3)
def inception_v3_torchvision(**fields: Any) -> InceptionV3:
    """Szegedy et al. 2015 as in torchvision: average pooling counts the padding."""
    defaults = {"count_padding": True, "dropout": 0.5, "kernel_init": "normal"}
    return InceptionV3(**{**defaults, **fields})
