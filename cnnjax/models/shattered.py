"""Nets in which gradients shatter, for vectors, numbers and images; they are not for `build`.

Balduzzi et al., "The Shattered Gradients Problem", 2017 (arXiv 1702.08591), section 2: feedforward and
residual layers of equal width without biases, weights of variance 2 / width, and the net from a number to a
number whose derivative figures 1 and 2 show. All layers are one array and one scanned loop.

Two things differ from the paper's text. The thresholds of the scalar net's first layer are spread over the
grid; drawn from N(0, 1 / width) they would all lie near 0. And that layer is never normalised: BatchNorm
would remove its biases, and all its neurons would switch at one point.

The convolutional nets follow section 4 as far as it describes them: 3x3 convolutions of equal width with
BatchNorm, the residual ones with a shortcut around every two. The convolution at the beginning and the
BatchNorm, ReLU, global pooling and classifier at the end are our choice. With weights of variance 2 / fan-in,
as in section 2, a residual stream begins with twice the pixels' variance, to which branches of variance
beta^2 are added.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax

from cnnjax.errors import UserError
from cnnjax.models.checks import check_choices
from cnnjax.models.network import Template
from cnnjax.ops.activations import crelu
from cnnjax.ops.conv import CONVOLUTIONS
from cnnjax.ops.depth import Looped, block_names, repeat
from cnnjax.ops.init import he_normal_fan_in
from cnnjax.ops.norm import BatchNorm

Hold = Callable[[jax.Array], jax.Array]
STATISTICS: dict[str, Hold] = {"frozen": lax.stop_gradient, "batch": lambda statistic: statistic}
"""What a derivative takes the statistics of the inputs for.

"frozen": constants, so that an output's derivative by its own input i, df_i / dx_i, is all that there is.
"batch": functions of all inputs, as in training, so that the derivative of the sum of the outputs by input i
has the terms df_j / dx_i of all other outputs too.
"""


def _center(x: jax.Array, hold: Hold = lax.stop_gradient) -> jax.Array:
    return x - hold(x.mean(0))


def _batch_norm(x: jax.Array, hold: Hold = lax.stop_gradient) -> jax.Array:
    x = _center(x, hold)
    return x * hold(lax.rsqrt(jnp.square(x).mean(0)))


NORMS: dict[str, Callable[..., jax.Array]] = {
    "none": lambda x, hold=lax.stop_gradient: x,
    "center": _center,
    "batch": _batch_norm,
}
"""What precedes a ReLU, over the inputs [input, neuron]: nothing, centring, or standardising."""

JOINS: dict[str, Callable[[jax.Array, jax.Array, float], jax.Array]] = {
    "feedforward": lambda x, branch, beta: branch,
    "residual": lambda x, branch, beta: x + beta * branch,
}


def he_layers(key: jax.Array, depth: int, width: int) -> jax.Array:
    """Draw weights [layer, width, width] of variance 2 / width."""
    return jnp.sqrt(2 / width) * jax.random.normal(key, (depth, width, width))


def looks_linear_layers(key: jax.Array, depth: int, width: int) -> jax.Array:
    """Draw mirrored orthogonal weights [layer, 2 * width, width] for CReLU: (W, -W) (section 5)."""
    weights = jax.vmap(lambda key: nn.initializers.orthogonal()(key, (width, width)))(
        jax.random.split(key, depth)
    )
    return jnp.concatenate([weights, -weights], 1)


LAYERS = {"he": (nn.relu, he_layers), "looks_linear": (crelu, looks_linear_layers)}


class HiddenLayers(nn.Module):
    """`depth` layers W relu(norm(x)), alone ("feedforward") or as x + beta W relu(norm(x)) ("residual").

    With `weights` "looks_linear" the ReLU is a CReLU, and the net is linear until it is trained. `statistics`
    says what a derivative takes the norm's statistics for (`STATISTICS`).
    """

    net: str
    depth: int
    width: int = 200
    norm: str = "batch"
    beta: Any = 1.0
    weights: str = "he"
    statistics: str = "frozen"

    def __post_init__(self) -> None:
        check_choices(self, net=JOINS, norm=NORMS, weights=LAYERS, statistics=STATISTICS)
        super().__post_init__()

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[input, width] to [input, width]; sows the layers' inputs, `streams` [layer, input, width]."""
        activation, init = LAYERS[self.weights]
        norm, join, hold = NORMS[self.norm], JOINS[self.net], STATISTICS[self.statistics]

        def layer(x: jax.Array, kernel: jax.Array) -> tuple[jax.Array, jax.Array]:
            return join(x, activation(norm(x, hold)) @ kernel, self.beta), x

        y, streams = lax.scan(layer, x, self.param("kernel", init, self.depth, self.width))
        self.sow("intermediates", "streams", streams)
        return y


class ScalarNet(nn.Module):
    """From number to number by `depth` hidden layers: f(t) = w . layers(W relu(t - b)), b ~ U(-2, 2)."""

    net: str
    depth: int
    width: int = 200
    norm: str = "batch"
    beta: Any = 1.0
    statistics: str = "frozen"

    @nn.compact
    def __call__(self, t: jax.Array) -> jax.Array:
        """[input] to [input]."""
        thresholds = self.param(
            "thresholds", lambda key: jax.random.uniform(key, (self.width,), minval=-2.0, maxval=2.0)
        )
        first = self.param("first", lambda key: he_layers(key, 1, self.width)[0])
        readout = self.param("readout", nn.initializers.normal(self.width**-0.5), (self.width,))
        x = nn.relu(t[:, None] - thresholds) @ first
        layers = HiddenLayers(
            self.net,
            self.depth - 1,
            self.width,
            self.norm,
            self.beta,
            statistics=self.statistics,
            name="layers",
        )
        return layers(x) @ readout


class FeedforwardLayer(nn.Module):
    """BatchNorm, ReLU and a convolution."""

    conv: Template
    norm: Template
    beta: float

    convolutions: ClassVar[int] = 1

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[batch, height, width, channel] to the same."""
        return self.conv(name="conv1")(nn.relu(self.norm(name="bn1")(x)))


class ResidualPair(nn.Module):
    """x + beta * branch(x), where the branch has two such layers."""

    conv: Template
    norm: Template
    beta: float

    convolutions: ClassVar[int] = 2

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[batch, height, width, channel] to the same."""
        y = self.conv(name="conv1")(nn.relu(self.norm(name="bn1")(x)))
        return x + self.beta * self.conv(name="conv2")(nn.relu(self.norm(name="bn2")(y)))


BLOCKS = {"feedforward": FeedforwardLayer, "residual": ResidualPair}


class ConvNet(nn.Module, Looped):
    """A convolution to `width` channels, then `depth` of them with BatchNorm, alone or in residual branches.

    Attributes:
        net: "feedforward" or "residual".
        depth: number of 3x3 convolutions after the first, even in a residual net.
        width: channels.
        beta: factor of the residual branches.
        num_classes: outputs of the classifier.
        loop: how to loop over the blocks, "scan", "unrolled" or "auto" (`cnnjax.ops.depth`).
        convolution: "auto", "direct", "canonical" or "native" (`cnnjax.ops.conv`).
    """

    net: str
    depth: int
    width: int = 16
    beta: float = 1.0
    num_classes: int = 10
    loop: str = "scan"
    convolution: str = "auto"

    def __post_init__(self) -> None:
        check_choices(self, net=BLOCKS)
        if self.depth < 0 or self.depth % BLOCKS[self.net].convolutions:
            raise UserError(f"depth={self.depth}: must not be negative, and even in a residual net")
        super().__post_init__()

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Images [batch, height, width, channel] to logits [batch, num_classes]."""
        conv = partial(
            nn.Conv,
            self.width,
            (3, 3),
            padding=1,
            use_bias=False,
            kernel_init=he_normal_fan_in,
            conv_general_dilated=CONVOLUTIONS[self.convolution],
        )
        norm = partial(BatchNorm, use_running_average=not train)
        block = BLOCKS[self.net]
        names = block_names(1, self.depth // block.convolutions, longest=100)  # three digits at any depth
        x = conv(name="conv1")(x)
        x = repeat(self, partial(block, conv, norm, self.beta), names, x, self.loop)
        x = nn.relu(norm(name="bn_last")(x)).mean((1, 2))
        return nn.Dense(self.num_classes, kernel_init=he_normal_fan_in, name="classifier")(x)
