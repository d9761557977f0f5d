"""BatchNorm's derivatives, which are written so that the backward pass reads the images seldom."""

import jax
import jax.numpy as jnp
import numpy as np

from cnnjax.ops.norm import BatchNorm

EPSILON = 1e-5
NORM = BatchNorm(use_running_average=False, epsilon=EPSILON, dtype=jnp.float64)


def by_definition(x, scale, bias):
    """Algorithm 1 of Ioffe & Szegedy 2015, as autodiff takes it."""
    mean = x.mean((0, 1, 2))
    var = jnp.square(x - mean).mean((0, 1, 2))
    return (x - mean) / jnp.sqrt(var + EPSILON) * scale + bias


def ours(x, scale, bias):
    variables = {"params": {"scale": scale, "bias": bias}, "batch_stats": {"mean": bias, "var": scale}}
    return NORM.apply(variables, x, mutable=["batch_stats"])[0]


def images(key):
    return 3 + jax.random.normal(jax.random.key(key), (5, 3, 2, 4), jnp.float64)


def test_derivatives_of_first_and_second_order_are_those_of_the_definition():
    with jax.enable_x64(True):
        scale, bias, point = jnp.array([1.0, 0.5, 2, -1]), jnp.arange(4.0), images(0)
        weights, direction = images(1), (images(2), bias, scale)

        def slope(function, *arguments):
            return jax.grad(lambda *arguments: (weights * jnp.sin(function(*arguments))).sum(), (0, 1, 2))(
                *arguments
            )

        def curvature(function):
            return jax.jvp(lambda *arguments: slope(function, *arguments), (point, scale, bias), direction)

        for own, true in zip(*map(jax.tree.leaves, map(curvature, (ours, by_definition))), strict=True):
            np.testing.assert_allclose(own, true, rtol=1e-10, atol=1e-12)


def test_a_backward_pass_sums_over_the_images_twice():
    def backward(x, scale, bias, upstream):
        return jax.vjp(ours, x, scale, bias)[1](upstream)

    with jax.enable_x64(True):
        arguments = images(0), jnp.ones(4), jnp.zeros(4), images(1)
        jaxpr = jax.make_jaxpr(backward)(*arguments).jaxpr
    sums = [
        e for e in jaxpr.eqns if e.primitive.name == "reduce_sum" and e.invars[0].aval.shape == (5, 3, 2, 4)
    ]
    assert len(sums) == 2 + 2  # mean and variance, gradients of bias and scale
