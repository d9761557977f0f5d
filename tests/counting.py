"""Counts of a network from its trace, and variables for it: nothing is computed by the network."""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import jaxprs_in_params


def trace(model, image):
    """Abstract variables of `model` for one image [height, width, channel]."""
    return jax.eval_shape(lambda: model.init(jax.random.key(0), jnp.zeros((1, *image)), train=False))


def parameters(model, image=(32, 32, 3)):
    """Trainable parameters; BatchNorm's running averages are none."""
    return sum(leaf.size for leaf in jax.tree.leaves(trace(model, image)["params"]))


def parameters_of_deep(model, image=(32, 32, 3)):
    """`parameters` of a net with equal stages, from its first two depths: each block more adds the same."""
    blocks, *others = model.stage_sizes
    assert all(other == blocks for other in others)
    two, three = (parameters(model.clone(stage_sizes=(n,) * (1 + len(others))), image) for n in (2, 3))
    return two + (blocks - 2) * (three - two)


def multiply_adds(model, image):
    """Multiply-adds of convolutions and dense layers for one image."""
    variables = trace(model, image)
    jaxpr = jax.make_jaxpr(lambda v, x: model.apply(v, x, train=False))(variables, jnp.zeros((1, *image)))
    return _multiply_adds(jaxpr.jaxpr)


def profile(model, image):
    """Abstract variables and multiply-adds from a single trace, that of `init` with all that it runs."""
    jaxpr, variables = jax.make_jaxpr(
        lambda: model.init(jax.random.key(0), jnp.zeros((1, *image)), train=False), return_shape=True
    )()
    return variables, _multiply_adds(jaxpr.jaxpr)


def random_variables(model, image, seed=0):
    """Variables of a net in training: every array random, kernels with He's variance, by numpy alone."""
    rng = np.random.default_rng(seed)

    def draw(path, leaf):
        noise = rng.standard_normal(leaf.shape).astype(leaf.dtype)
        kind = path[-1].key
        if kind == "kernel":
            return noise * np.float32(math.sqrt(2 / math.prod(leaf.shape[:-1])))
        return {"scale": 1, "var": 1}.get(kind, 0) + np.float32(0.1) * noise

    return jax.tree_util.tree_map_with_path(draw, trace(model, image))


def _multiply_adds(jaxpr):
    total = 0
    for equation in jaxpr.eqns:
        if equation.primitive.name in ("conv_general_dilated", "convolve"):
            kernel, out = equation.invars[1].aval.shape, equation.outvars[0].aval.shape
            total += math.prod(out) * math.prod(kernel[:-1])
        elif equation.primitive.name == "dot_general":
            (contracted, _), _ = equation.params["dimension_numbers"]
            terms = math.prod(equation.invars[0].aval.shape[axis] for axis in contracted)
            total += math.prod(equation.outvars[0].aval.shape) * terms
        times = equation.params["length"] if equation.primitive.name == "scan" else 1
        for inner in jaxprs_in_params(equation.params):
            total += times * _multiply_adds(inner)
    return total
