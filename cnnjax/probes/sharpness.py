"""How far the loss can rise close by.

Keskar, Mudigere, Nocedal, Smelyanskiy and Tang, "On Large-Batch Training for Deep Learning", 2017 (arXiv
1609.04836), metric 2.1: the largest rise of the loss f in a box around the weights x, 100 (f(y) - f(x)) /
(1 + f(x)), where no weight y_i is further from x_i than epsilon (|x_i| + 1).
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.flatten_util import ravel_pytree


def box_sharpness(
    loss: Callable[[Any], jax.Array], params: Any, epsilon: float = 1e-3, steps: int = 10
) -> jax.Array:
    """Keskar et al.'s sharpness of `loss` at `params`, in percent, from below.

    The paper maximises by 10 iterations of L-BFGS-B. Here it is `steps` of projected gradient ascent along
    the signs of the gradient, each a quarter of the box's half-width; the highest point counts. It depends
    on the scale of the weights, which BatchNorm makes arbitrary (Dinh et al. 2017, arXiv 1703.04933): compare
    networks of one kind, trained with one weight decay.

    Args:
        loss: a function of the parameters, such as `cnnjax.probes.curvature.batch_loss` gives.
        params: a tree of arrays.
        epsilon: half the width of the box; the paper has 1e-3 and 5e-4.
        steps: of the ascent, each a gradient.
    """
    flat, unravel = ravel_pytree(params)
    radius = epsilon * (jnp.abs(flat) + 1)
    value_and_grad = jax.value_and_grad(lambda moved: loss(unravel(flat + moved)))

    def step(carry: tuple[jax.Array, jax.Array], _: None) -> tuple[tuple[jax.Array, jax.Array], None]:
        moved, best = carry
        value, gradient = value_and_grad(moved)
        moved = jnp.clip(moved + jnp.sign(gradient) * radius / 4, -radius, radius)
        return (moved, jnp.maximum(best, value)), None

    start = loss(params)
    (moved, best), _ = lax.scan(step, (jnp.zeros_like(flat), start), None, length=steps)
    best = jnp.maximum(best, loss(unravel(flat + moved)))
    return 100 * (best - start) / (1 + start)
