"""What an activation does to the gradient in a deep stack of wide layers at initialisation, beside theory."""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from cnnjax.ops.activations import ACTIVATIONS
from cnnjax.probes import theory

from .settings import Activation


def gradient_norms(activation: Activation, place: str, depth: int, width: int, seeds: int) -> np.ndarray:
    """Norms [seed, layer] of a gradient by the layers' outputs z = W x, in float64.

    `depth` dense layers of `width` units without biases, on `width` random inputs whose elements have mean
    square 1; `place` is a key of `PLACES`. The gradient is that of the last output in a random direction.
    """
    with jax.enable_x64(True):
        function = ACTIVATIONS[activation.name]()
        variables = function.init(jax.random.key(0), jnp.zeros((1, width)))
        layer = _layer(lambda z: jnp.asarray(function.apply(variables, z)), place)

        @jax.jit
        @jax.vmap
        def measure(key: jax.Array) -> jax.Array:
            of_weights, of_inputs, of_direction = jax.random.split(key, 3)
            std = math.sqrt(activation.variance / width)
            weights = std * jax.random.normal(of_weights, (depth, width, width))
            inputs = jax.random.normal(of_inputs, (width, width))
            inputs /= jnp.sqrt(jnp.square(inputs).mean(1, keepdims=True))
            direction = jax.random.normal(of_direction, (width, width))

            def output(taps: jax.Array) -> jax.Array:
                last = lax.scan(lambda x, each: (layer(x @ each[0] + each[1]), None), inputs, (weights, taps))
                return jnp.vdot(direction, last[0])

            gradients = jax.grad(output)(jnp.zeros((depth, width, width)))
            return jnp.sqrt(jnp.square(gradients).sum((1, 2)))

        return np.asarray(measure(jax.random.split(jax.random.key(0), seeds)))


def expected_factors(activation: Activation, place: str, depth: int) -> np.ndarray:
    """Theory of the factor [layer] of the gradient's norm, from each layer but the last to the one below it.

    Without BatchNorm: sqrt(chi) at the variance q of this layer's output, which goes from layer to layer as
    variance * E[phi^2] (Poole et al. 2016), from `variance` on. With it before the activation, what the
    first layer takes has variance 1, and not Var[phi].
    """
    variance, name = activation.variance, activation.title
    if place == "BatchNorm after":
        return np.full(depth - 1, theory.batch_norm_growth(name, variance))
    if place == "BatchNorm before":
        first = math.sqrt(theory.of_normal(name, 1.0).slope)
        return np.array([first, *[theory.batch_norm_growth(name)] * (depth - 2)])
    q, factors = variance, []
    for _ in range(depth - 1):
        found = theory.of_normal(name, q)
        factors.append(math.sqrt(variance * found.slope))
        q = variance * found.square
    return np.array(factors)


def mean_factor(norms: np.ndarray) -> np.ndarray:
    """Geometric mean of the factor per layer on the way back, of norms [..., layer]."""
    return (norms[..., 0] / norms[..., -1]) ** (1 / (norms.shape[-1] - 1))


def _layer(function: Callable[[jax.Array], jax.Array], place: str) -> Callable[[jax.Array], jax.Array]:
    """What follows z: the activation, and BatchNorm [batch, unit] in training mode."""

    def normalize(x: jax.Array) -> jax.Array:
        return (x - x.mean(0)) / jnp.sqrt(x.var(0) + 1e-5)

    return {
        "without BatchNorm": function,
        "BatchNorm before": lambda z: function(normalize(z)),
        "BatchNorm after": lambda z: normalize(function(z)),
    }[place]
