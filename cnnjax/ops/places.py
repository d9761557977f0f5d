"""Fully connected layers as convolutions: a classifier of a map of fixed size at every place of a larger one.

Sermanet et al. 2014 (OverFeat, arXiv 1312.6229, section 3.5); Simonyan and Zisserman 2014, section 3.2.
"""

import jax
import jax.numpy as jnp


def at_every_place(x: jax.Array, side: int) -> jax.Array:
    """Flatten the `side` x `side` windows of maps [batch, height, width, channel], all of them one apart.

    A map of that size gives [batch, feature], a larger one [batch, place, feature]: the layers that follow
    work on the last axis, which is what they do as convolutions.
    """
    height, width = x.shape[1:3]
    if height == width == side:
        return x.reshape(len(x), -1)
    rows, columns = (jnp.arange(each - side + 1)[:, None] + jnp.arange(side) for each in (height, width))
    windows = x[:, rows[:, None, :, None], columns[None, :, None, :]]  # [batch, row, column, side, side, ...]
    return windows.reshape(len(x), rows.shape[0] * columns.shape[0], -1)


def mean_over_places(scores: jax.Array) -> jax.Array:
    """The scores [batch, class] of an image, from those of its one place or of each place."""
    return scores if scores.ndim == 2 else scores.mean(1)
