"""Fully connected nets in which gradients shatter, of vectors and numbers; `build` knows nets of images only.

Balduzzi et al., "The Shattered Gradients Problem", 2017 (arXiv 1702.08591), section 2: feedforward and
residual layers of equal width without biases, weights of variance 2 / width, and the net from a number to a
number whose derivative figures 1 and 2 show. All layers are one array and one scanned loop.

Two things are not as the paper's text has them. The thresholds of the scalar net's first layer are spread
over the grid; drawn from N(0, 1 / width) they would all lie near 0. And that layer is never normalised:
BatchNorm takes biases away, so that all its neurons would switch at one point.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax

from cnnjax.errors import UserError


def _center(x: jax.Array) -> jax.Array:
    return x - lax.stop_gradient(x.mean(0))


def _batch_norm(x: jax.Array) -> jax.Array:
    x = _center(x)
    return x * lax.stop_gradient(lax.rsqrt(jnp.square(x).mean(0)))


NORMS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "none": lambda x: x,
    "center": _center,
    "batch": _batch_norm,
}
"""What precedes a ReLU, over the inputs [input, neuron]: as it is, less the mean, or standardised.

The statistics are frozen: constants to the derivative, so that an input's gradient is its own.
"""

JOINS: dict[str, Callable[[jax.Array, jax.Array, float], jax.Array]] = {
    "feedforward": lambda x, branch, beta: branch,
    "residual": lambda x, branch, beta: x + beta * branch,
}


def he_layers(key: jax.Array, depth: int, width: int) -> jax.Array:
    """Weights [layer, width, width] of variance 2 / width."""
    return jnp.sqrt(2 / width) * jax.random.normal(key, (depth, width, width))


def looks_linear_layers(key: jax.Array, depth: int, width: int) -> jax.Array:
    """Mirrored orthogonal weights [layer, 2 * width, width] for a concatenated ReLU: (W, -W) (section 5)."""
    weights = jax.vmap(lambda key: nn.initializers.orthogonal()(key, (width, width)))(
        jax.random.split(key, depth)
    )
    return jnp.concatenate([weights, -weights], 1)


def crelu(x: jax.Array) -> jax.Array:
    """Concatenated ReLU: [..., channel] to [..., 2 * channel], relu(x) and relu(-x)."""
    return jnp.concatenate([nn.relu(x), nn.relu(-x)], -1)


LAYERS = {"he": (nn.relu, he_layers), "looks_linear": (crelu, looks_linear_layers)}


class Layers(nn.Module):
    """`depth` layers W relu(norm(x)), alone ("feedforward") or as x + beta W relu(norm(x)) ("residual").

    With `weights` "looks_linear" the ReLU is a concatenated one and the net is linear, until it is trained.
    """

    net: str
    depth: int
    width: int = 200
    norm: str = "batch"
    beta: Any = 1.0
    weights: str = "he"

    def __post_init__(self) -> None:
        for field, values in {"net": JOINS, "norm": NORMS, "weights": LAYERS}.items():
            if (value := getattr(self, field)) not in values:
                raise UserError(f"{field}={value!r}: must be one of {', '.join(values)}")
        super().__post_init__()

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[input, width] to [input, width]; sows what the layers get, `streams` [layer, input, width]."""
        activation, init = LAYERS[self.weights]
        norm, join = NORMS[self.norm], JOINS[self.net]

        def layer(x: jax.Array, kernel: jax.Array) -> tuple[jax.Array, jax.Array]:
            return join(x, activation(norm(x)) @ kernel, self.beta), x

        y, streams = lax.scan(layer, x, self.param("kernel", init, self.depth, self.width))
        self.sow("intermediates", "streams", streams)
        return y


class ScalarNet(nn.Module):
    """From a number to a number by `depth` hidden layers: f(t) = w . layers(W relu(t - b)), b ~ U(-2, 2)."""

    net: str
    depth: int
    width: int = 200
    norm: str = "batch"
    beta: Any = 1.0

    @nn.compact
    def __call__(self, t: jax.Array) -> jax.Array:
        """[input] to [input]."""
        thresholds = self.param(
            "thresholds", lambda key: jax.random.uniform(key, (self.width,), minval=-2.0, maxval=2.0)
        )
        first = self.param("first", lambda key: he_layers(key, 1, self.width)[0])
        readout = self.param("readout", nn.initializers.normal(self.width**-0.5), (self.width,))
        x = nn.relu(t[:, None] - thresholds) @ first
        x = Layers(self.net, self.depth - 1, self.width, self.norm, self.beta, name="layers")(x)
        return x @ readout
