"""GoogLeNet, and the Inception modules that its descendants share.

Szegedy et al., "Going Deeper with Convolutions", 2014 (arXiv 1409.4842), table 1. The widths are the table's;
its columns of parameters and operations do not follow from them (2.7 K is too few for the stem's dense 7x7,
and modules 4c, 5a and 5b differ). With these widths the net has 6,998,552 parameters and 1.58 G
multiply-adds, or 13,378,280 parameters with the auxiliary heads. Only training uses the heads, whose losses
have weight 0.3 each.

What the paper leaves open follows Caffe's replication, which has the same counts: pooling rounds sizes up,
local response normalisation has n = 5, alpha = 1e-4 (of the mean of squares), beta = 0.75 and k = 1, kernels
start as Caffe's "xavier", and biases start at 0.2, or at 0 in the classifiers.

`googlenet_torchvision` is torchvision's: BatchNorm instead of biases and response normalisation, 3x3 kernels
for the 5x5, the last max pooling 2x2, dropout 0.2 instead of 0.4, auxiliary heads whose pooling adapts to the
image, and weights from N(0, 0.01^2). Each difference is a field. (Biases start at 0
here; those of torchvision's dense layers are small random numbers.)
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from cnnjax.models.checks import check_at_least_one, check_image_size, check_rates
from cnnjax.models.network import BatchNormNetwork, Template
from cnnjax.models.registry import register
from cnnjax.ops.activations import ACTIVATIONS
from cnnjax.ops.init import caffe_xavier, normal
from cnnjax.ops.lrn import local_response_norm
from cnnjax.ops.norm import no_norm
from cnnjax.ops.pooling import adaptive_average_pool, average_pool, max_pool
from cnnjax.ops.precision import wide


class Conv(NamedTuple):
    """A convolution with its norm and activation; `padded` keeps the size, up to the strides."""

    filters: int
    size: int | tuple[int, int] = 1
    strides: int = 1
    padded: bool = True


class Fork(NamedTuple):
    """Two convolutions of the same input, concatenated: `conv2a` and `conv2b`, if they are the second."""

    a: Conv
    b: Conv


Step = Conv | Fork | Callable[[jax.Array], jax.Array]


class LayerTemplates(NamedTuple):
    """Templates of what a `Conv` consists of: convolution, norm and activation."""

    conv: Template
    norm: Template
    activation: Template

    def __call__(self, x: jax.Array, step: Conv, number: int | str) -> jax.Array:
        """Apply `step`; the names are `conv{number}` and `bn{number}`."""
        size = step.size if isinstance(step.size, tuple) else (step.size, step.size)
        padding = [(side - 1) // 2 if step.padded else 0 for side in size]
        x = self.conv(step.filters, size, step.strides, padding=padding, name=f"conv{number}")(x)
        return self.activation(name=f"activation{number}")(self.norm(name=f"bn{number}")(x))


class Branch(nn.Module):
    """Convolutions, numbered from 1, and poolings, one after the other."""

    steps: tuple[Step, ...]
    layers: LayerTemplates

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[batch, height, width, channel] to the same or [batch, height // 2, width // 2, channel]."""
        number = 0
        for step in self.steps:
            number += isinstance(step, Conv | Fork)
            if isinstance(step, Conv):
                x = self.layers(x, step, number)
            elif isinstance(step, Fork):
                forks = zip(step, ("a", "b"), strict=True)
                x = jnp.concatenate([self.layers(x, conv, f"{number}{side}") for conv, side in forks], -1)
            else:
                x = step(x)
        return x


class Inception(nn.Module):
    """Parallel branches, `branch1`, `branch2`, ..., whose results are concatenated (figure 2).

    `refine` is a template of a layer to follow the concatenation.
    """

    branches: tuple[tuple[Step, ...], ...]
    layers: LayerTemplates
    refine: Template | None = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[batch, height, width, channel] to the same or [batch, height // 2, width // 2, channel]."""
        outputs = [
            Branch(steps, self.layers, name=f"branch{number}")(x)
            for number, steps in enumerate(self.branches, start=1)
        ]
        y = jnp.concatenate(outputs, axis=-1)
        return self.refine()(y) if self.refine else y


def scaled(
    module: Callable[..., nn.Module], ratio: float, filters: int, *args: Any, **fields: Any
) -> nn.Module:
    """Return a template that makes `ratio` times as many filters as it is told, at least 1."""
    return module(max(1, int(ratio * filters)), *args, **fields)


class AuxiliaryHead(nn.Module):
    """A classifier on top of an inner module, for training (section 5)."""

    num_classes: int
    pool: Callable[[jax.Array], jax.Array]
    dropout: float
    train: bool
    layers: LayerTemplates
    dense: Template
    classifier: Template

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[batch, height, width, channel] to logits [batch, num_classes], which it also sows."""
        x = self.layers(self.pool(x), Conv(128), 1)
        x = self.dense(1024, name="fc1")(x.reshape(len(x), -1))
        x = self.layers.activation(name="activation2")(x)
        x = nn.Dropout(self.dropout, deterministic=not self.train)(x)
        return sow_logits(self, self.classifier(self.num_classes, name="fc2")(x))


def sow_logits(head: nn.Module, logits: jax.Array) -> jax.Array:
    """Leave a head's logits, float32 or wider, in the collection "auxiliary", for the loss."""
    logits = logits.astype(wide(logits.dtype))
    if not head.is_initializing():  # `init` returns variables only
        head.sow("auxiliary", "logits", logits)
    return logits


# Table 1: filters of 1x1, 3x3 reduce, 3x3, 5x5 reduce, 5x5, pool projection.
MODULES = {
    "3a": (64, 96, 128, 16, 32, 32), "3b": (128, 128, 192, 32, 96, 64),
    "4a": (192, 96, 208, 16, 48, 64), "4b": (160, 112, 224, 24, 64, 64), "4c": (128, 128, 256, 24, 64, 64),
    "4d": (112, 144, 288, 32, 64, 64), "4e": (256, 160, 320, 32, 128, 128),
    "5a": (256, 160, 320, 32, 128, 128), "5b": (384, 192, 384, 48, 128, 128),
}  # fmt: skip
POOLED_AFTER = ("3b", "4e")
HEADS = {"4a": "auxiliary1", "4d": "auxiliary2"}
NORMS = ("lrn", "batch")
INITS = {"xavier": (caffe_xavier, 0.2), "normal": (normal(0.01), 0.0)}
"""The kernels' initialiser and the initial bias, by name; the classifiers' biases start at 0."""
AUXILIARY_POOLS = {
    "5x5/3": partial(average_pool, size=5, strides=3),
    "adaptive": partial(adaptive_average_pool, size=4),
}


def branches(module: str, large_kernel: int) -> tuple[tuple[Step, ...], ...]:
    """Return the four branches of one of the `MODULES`."""
    one, reduce_three, three, reduce_five, five, projection = MODULES[module]
    return (
        (Conv(one),),
        (Conv(reduce_three), Conv(three, 3)),
        (Conv(reduce_five), Conv(five, large_kernel)),
        (partial(max_pool, size=3, strides=1, padding=1), Conv(projection)),
    )


class GoogLeNet(BatchNormNetwork, kw_only=True):
    """Three convolutions, nine Inception modules, and two auxiliary classifiers.

    Attributes:
        norm: "lrn", local response normalisation after two layers and biases, or "batch", BatchNorm after
            every convolution and no biases.
        large_kernel: side of the third branch's kernels, 5 in the paper, 3 in torchvision.
        last_pool: side of the last max pooling's windows, 3 in the paper, 2 in torchvision.
        aux_heads: whether modules 4a and 4d have auxiliary classifiers, which leave their logits in the
            collection "auxiliary" in training.
        auxiliary_weight: weight of each of their losses.
        auxiliary_pool: "5x5/3", the paper's, or "adaptive", torchvision's, which pools any image to 4x4.
        dropout: rate before the classifier.
        auxiliary_dropout: rate before the auxiliary classifiers.
        kernel_init: "xavier" (Caffe's, with biases of 0.2) or "normal", N(0, 0.01^2), with biases of 0.
        width: filters of the first convolution.
        remat: whether the backward pass recomputes a module's activations, to save memory.
    """

    norm: str = "lrn"
    large_kernel: int = 5
    last_pool: int = 3
    aux_heads: bool = True
    auxiliary_weight: float = 0.3
    auxiliary_pool: str = "5x5/3"
    dropout: float = 0.4
    auxiliary_dropout: float = 0.7
    kernel_init: str = "xavier"
    width: int = 64
    num_classes: int = 1000
    bn_epsilon: float = 1e-3
    remat: bool = False

    choices: ClassVar[Mapping[str, Any]] = {
        **BatchNormNetwork.choices,
        "norm": NORMS,
        "auxiliary_pool": AUXILIARY_POOLS,
        "kernel_init": INITS,
    }
    input_shape: ClassVar[tuple[int, int, int]] = (224, 224, 3)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least_one(self, "width", "large_kernel", "last_pool")
        check_rates(self, "dropout", "auxiliary_dropout")

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Images [batch, height, width, channel] to logits [batch, num_classes], float32 or wider.

        Raises:
            UserError: the images are too small, or do not fit the auxiliary heads that training needs.
        """
        heads = self.aux_heads and (train or self.is_initializing())
        check_image_size(x, 16 * self.last_pool - 1)
        if heads and self.auxiliary_pool == "5x5/3":  # to 4x4
            check_image_size(x, 223, 270, "for the auxiliary heads; aux_heads=False takes others")

        kernel_init, bias = INITS[self.kernel_init]
        ratio = self.width / 64
        lrn = self.norm == "lrn"
        bias_init = nn.initializers.constant(bias)
        conv = self.conv(use_bias=lrn, kernel_init=kernel_init, bias_init=bias_init)
        norm = no_norm if lrn else self.batch_norm(train)
        normalize = partial(local_response_norm, size=5, alpha=1e-4, beta=0.75, k=1.0, alpha_per="mean")
        layers = LayerTemplates(partial(scaled, conv, ratio), norm, ACTIVATIONS[self.activation])
        inception = nn.remat(Inception) if self.remat else Inception
        head = partial(
            AuxiliaryHead,
            self.num_classes,
            AUXILIARY_POOLS[self.auxiliary_pool],
            self.auxiliary_dropout,
            train,
            layers,
            partial(scaled, self.dense(kernel_init=kernel_init, bias_init=bias_init), ratio),
            self.dense(kernel_init=kernel_init),
        )

        x = layers(x.astype(self.dtype), Conv(64, 7, strides=2), 1)
        x = max_pool(x, 3, 2, ceil=True)
        x = normalize(x) if lrn else x
        x = layers(x, Conv(64), 2)
        x = layers(x, Conv(192, 3), 3)
        x = normalize(x) if lrn else x
        x = max_pool(x, 3, 2, ceil=True)
        for module in MODULES:
            x = inception(branches(module, self.large_kernel), layers, name=f"inception{module}")(x)
            if module in POOLED_AFTER:
                x = max_pool(x, self.last_pool if module == "4e" else 3, 2, ceil=True)
            if module in HEADS and heads:
                head(name=HEADS[module])(x)
        x = nn.Dropout(self.dropout, deterministic=not train)(x.mean((1, 2)))
        return self.classify(x, kernel_init)


@register("googlenet", GoogLeNet)
def googlenet(**fields: Any) -> GoogLeNet:
    """Szegedy et al. 2014, GoogLeNet."""
    return GoogLeNet(**fields)


@register("googlenet_torchvision", GoogLeNet)
def googlenet_torchvision(**fields: Any) -> GoogLeNet:
    """Szegedy et al. 2014 as in torchvision: BatchNorm, 3x3 for 5x5."""
    defaults = {
        "norm": "batch",
        "large_kernel": 3,
        "last_pool": 2,
        "auxiliary_pool": "adaptive",
        "dropout": 0.2,
        "kernel_init": "normal",
    }
    return GoogLeNet(**{**defaults, **fields})
