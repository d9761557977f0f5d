"""Deep networks without shortcuts or BatchNorm that start as linear functions.

Balduzzi, Frean, Leary, Lewis, Ma and McWilliams, "The Shattered Gradients Problem", 2017 (arXiv 1702.08591),
section 5: the activation is CReLU(x) = [max(0, x), max(0, -x)], and a layer's kernel is mirrored, [W, -W], so
that W max(0, x) - W max(0, -x) = W x. W is delta-orthogonal: zero except at its centre, an orthogonal matrix.

The nets are those of the paper's CIFAR-10 experiment: a 3x3 convolution, four stages of n 3x3 convolutions
with 8, 16, 32 and 64 filters, the first of a later stage with stride 2, and a classifier, 4n + 2 layers, 6 to
198. CReLU doubles a convolution's inputs, so its nets have 1 / sqrt(2) times the filters, rounded, and about
as many parameters. The paper's controls differ in two fields: `activation="relu"`, `kernel_init="he"`. Our
choices: global pooling before the classifier, and biases that start at 0.

Deep nets need a low rate. Measured with `looks_linear50`: training error after 300 steps of SGD (momentum
0.9, cosine after a linear warm-up, batch 128; Fashion-MNIST at 14x14, one seed): 28 % at the rate 0.0015,
20 % at 0.005, divergence at 0.015 and 0.05; 20 % at 0.002 on pixels of variance 1 (`normalize="channel"`);
with Adam, 16 % at 0.001.
"""

import math
from collections.abc import Mapping
from functools import partial
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from flax import linen as nn

from cnnjax.errors import UserError
from cnnjax.models.checks import blocks_in, check_at_least_one
from cnnjax.models.network import ConvNetwork, Template
from cnnjax.models.registry import register
from cnnjax.ops.activations import ACTIVATIONS, crelu
from cnnjax.ops.depth import LOOPS, Looped, block_names, repeat
from cnnjax.ops.init import INITS, delta_orthogonal, he_normal_fan_in


class CReLU(nn.Module):
    """The positive and the negative part as separate channels (Shang et al. 2016)."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[..., channel] to [..., 2 * channel]."""
        return crelu(x)


def mirrored(key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
    """A delta-orthogonal kernel and its negative, for the channels of CReLU."""
    *extent, c_in, c_out = shape
    kernel = delta_orthogonal(key, (*extent, c_in // 2, c_out), dtype)
    return jnp.concatenate([kernel, -kernel], axis=-2)


def mirrored_dense(key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
    """A semi-orthogonal matrix and its negative, for the channels of CReLU."""
    kernel = nn.initializers.orthogonal()(key, (shape[0] // 2, shape[1]), dtype)
    return jnp.concatenate([kernel, -kernel])


class Layer(nn.Module):
    """Activation and 3x3 convolution."""

    filters: int
    strides: int
    conv: Template
    activation: Template

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[batch, height, width, channel] to [batch, height / strides, width / strides, filters]."""
        return self.conv(self.filters, (3, 3), self.strides, padding=1, name="conv")(
            self.activation(name="act")(x)
        )


KERNELS = {  # of the first convolution, the others and the classifier
    "looks_linear": (delta_orthogonal, mirrored, mirrored_dense),
    **{name: (init, init, he_normal_fan_in) for name, init in INITS.items()},
}


class LooksLinear(ConvNetwork, Looped, kw_only=True):
    """Four stages of convolutions; each halves the resolution and doubles the filters.

    Attributes:
        stage_sizes: layers in each stage.
        width: filters of the first stage; CReLU has 1 / sqrt(2) times as many.
        activation: "crelu" or a name in `cnnjax.ops.activations.ACTIVATIONS`.
        kernel_init: "looks_linear" or a name in `cnnjax.ops.init.INITS`.
        loop: how to loop over a stage's equal layers, "scan", "unrolled" or "auto" (`cnnjax.ops.depth`).
        remat: whether the backward pass recomputes a layer's activations, to save memory.
    """

    stage_sizes: tuple[int, ...]
    width: int = 8
    activation: str = "crelu"
    kernel_init: str = "looks_linear"
    num_classes: int = 10
    loop: str = "auto"
    remat: bool = False

    choices: ClassVar[Mapping[str, Any]] = {
        **ConvNetwork.choices,
        "activation": ("crelu", *ACTIVATIONS),
        "kernel_init": KERNELS,
        "loop": LOOPS,
    }
    input_shape: ClassVar[tuple[int, int, int]] = (32, 32, 3)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least_one(self, "stage_sizes", "width")
        if self.kernel_init == "looks_linear" and self.activation != "crelu":
            raise UserError(f"kernel_init='looks_linear' needs activation='crelu', not {self.activation!r}")

    def filters(self, stage: int) -> int:
        """Return the filters of the layers in the stage, counted from 1."""
        filters = self.width * 2 ** (stage - 1)
        return round(filters / math.sqrt(2)) if self.activation == "crelu" else filters

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Images [batch, height, width, channel] to logits [batch, num_classes], float32 or wider."""
        first_init, init, classifier_init = KERNELS[self.kernel_init]
        conv = self.conv()
        activation = CReLU if self.activation == "crelu" else ACTIVATIONS[self.activation]
        layer_class = nn.remat(Layer) if self.remat else Layer
        layer = partial(layer_class, conv=partial(conv, kernel_init=init), activation=activation)

        first = conv(self.filters(1), (3, 3), 1, padding=1, kernel_init=first_init, name="conv1")
        x = first(x.astype(self.dtype))
        for stage, layers in enumerate(self.stage_sizes, start=1):
            filters = self.filters(stage)
            name, *rest = block_names(stage, layers, max(self.stage_sizes))
            x = layer(filters, 1 if stage == 1 else 2, name=name)(x)
            x = repeat(self, partial(layer, filters, 1), rest, x, self.loop)
        return self.classify(activation(name="act_last")(x).mean((1, 2)), classifier_init)


@register("looks_linear{depth}", LooksLinear, (6, 198))
def looks_linear(depth: int, **fields: Any) -> LooksLinear:
    """Balduzzi et al. 2017, looks-linear net of CReLUs for CIFAR (any depth 4n + 2)."""
    layers = blocks_in("looks_linear", depth, 4, 2)
    return LooksLinear(**{"stage_sizes": (layers,) * 4, **fields})
