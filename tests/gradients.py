"""Initial weights of a net, and that every one of them gets a gradient; compiled in haste."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict

from tests.counting import random_variables


def compiled(function, *args):
    """The jitted function, compiled for these arguments without LLVM's optimisations: twice as soon."""
    return jax.jit(function).lower(*args).compile({"xla_backend_optimization_level": 0})


def initial(model, image, seed=0):
    """Initial parameters of a net for one image [height, width, channel], by path such as `conv1/kernel`."""
    key = jax.random.key(seed)
    images = jax.ShapeDtypeStruct((1, *image), jnp.float32)
    params = compiled(lambda key: model.lazy_init(key, images, train=False)["params"], key)(key)
    return {path: np.asarray(value) for path, value in flatten_dict(params, sep="/").items()}


def assert_every_parameter_gets_a_gradient(model, image, batch=8):
    """Of a loss of the logits in training, auxiliary ones included: float32, finite, not all zero."""
    key = jax.random.key(0)
    images = jax.random.normal(key, (batch, *image))
    variables = random_variables(model, image)
    forward = partial(model.apply, mutable=["batch_stats", "auxiliary"], rngs={"dropout": key}, train=True)

    def loss(params):
        logits, new = forward({**variables, "params": params}, images)
        heads = [logits, *jax.tree.leaves(new.get("auxiliary", {}))]
        assert all(head.dtype == jnp.float32 and head.shape == logits.shape for head in heads)
        return sum(jnp.square(head - jnp.arange(head.shape[-1])).mean() for head in heads)

    gradients = compiled(jax.grad(loss), variables["params"])(variables["params"])
    for path, gradient in flatten_dict(gradients).items():
        assert gradient.dtype == jnp.float32, path
        assert np.isfinite(gradient).all(), path
        assert np.abs(gradient).max() > 0, path
