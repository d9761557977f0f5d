"""Logits in float64, where two implementations differ by rounding only: in float32 that can be 6e-4."""

import jax
import jax.numpy as jnp
import numpy as np


def logits64(model, variables, images):
    """Logits of `images` [batch, height, width, channel] in float64."""
    with jax.enable_x64(True):
        model = model.clone(dtype=jnp.float64, convolution="native")  # compiles sooner
        variables, images = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), (variables, images))
        apply = jax.jit(lambda variables, images: model.apply(variables, images, train=False))
        return np.asarray(apply(variables, images))
