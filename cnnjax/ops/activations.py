"""Activations by name, for the networks' field `activation`.

Each name gives a module: `ACTIVATIONS["relu"](name="act1")(x)`. All except PReLU have no parameters and do
not show up in the variables. "scaled_tanh" is 1.7159 tanh(2 x / 3), with f(1) = 1 and f(-1) = -1 (LeCun et
al. 1998, appendix A); "leaky_relu" has the slope 0.01 below zero (Maas, Hannun and Ng 2013); "elu" is
exp(x) - 1 there (Clevert, Unterthiner and Hochreiter 2015); "gelu" is x Phi(x), exactly (Hendrycks and Gimpel
2016).
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from flax import linen as nn

from cnnjax.ops.precision import wide


class Elementwise(nn.Module):
    """A function without parameters."""

    function: Callable[[jax.Array], jax.Array]

    def __call__(self, x: jax.Array) -> jax.Array:
        """Apply it to every element."""
        return self.function(x)


class PReLU(nn.Module):
    """x, and below zero x times a slope learned for each channel (He et al. 2015b, arXiv 1502.01852, eq. 1).

    The slopes start at 0.25 and have no weight decay in the paper (section 2.1).
    """

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Apply it to `x` [..., channel]."""
        slope = self.param("slope", nn.initializers.constant(0.25), (x.shape[-1],), wide(x.dtype))
        return jnp.where(x > 0, x, slope.astype(x.dtype) * x)


def scaled_tanh(x: jax.Array) -> jax.Array:
    """1.7159 tanh(2 x / 3)."""
    return 1.7159 * jnp.tanh(2 / 3 * x)


def crelu(x: jax.Array) -> jax.Array:
    """Concatenated ReLU: [..., channel] to [..., 2 * channel], relu(x) and relu(-x) (Shang et al. 2016)."""
    return jnp.concatenate([nn.relu(x), nn.relu(-x)], axis=-1)


ACTIVATIONS: dict[str, Callable[..., nn.Module]] = {
    "sigmoid": partial(Elementwise, nn.sigmoid),
    "tanh": partial(Elementwise, jnp.tanh),
    "scaled_tanh": partial(Elementwise, scaled_tanh),
    "relu": partial(Elementwise, nn.relu),
    "leaky_relu": partial(Elementwise, nn.leaky_relu),
    "prelu": PReLU,
    "elu": partial(Elementwise, nn.elu),
    "gelu": partial(Elementwise, partial(nn.gelu, approximate=False)),
}
