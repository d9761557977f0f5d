"""The exact Gauss-Newton diagonal and LeNet-5's optimizer; training/test_diagonal_lm.py has runs with it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax.losses import cross_entropy
from cnnjax.models.lenet5 import map_loss
from cnnjax.second_order import diagonal_lm, gauss_newton_diagonal

pytestmark = pytest.mark.usefixtures("x64")
RANDOM = np.random.default_rng(0)


def test_of_a_linear_model_with_squared_loss_it_is_the_mean_of_squares():
    """y = w x + b with half the squared error: h of w_k is the mean of x_k^2, and of b it is 1."""
    x = jnp.array(RANDOM.normal(size=(7, 3)))

    def of_sample(params, number):
        return gauss_newton_diagonal(
            lambda params: (params["w"] @ x[number] + params["b"])[None],
            lambda output: 0.5 * jnp.sum((output - 2.0) ** 2),
            params,
        )

    params = {"w": jnp.array([0.3, -1.0, 2.0]), "b": jnp.zeros(())}
    optimizer = diagonal_lm(0.1, lambda samples: lambda p, i: of_sample(p, i), every=2, samples=7)
    gradient = {"w": jnp.array([1.0, 2.0, 3.0]), "b": jnp.ones(())}
    x_squared = np.square(x).mean(0)
    updates, state = optimizer.update(gradient, optimizer.init(params), params)
    np.testing.assert_allclose(state.curvature["w"], x_squared, rtol=1e-12)
    np.testing.assert_allclose(updates["w"], -0.1 / (0.02 + x_squared) * gradient["w"], rtol=1e-12)
    np.testing.assert_allclose(updates["b"], -0.1 / 1.02, rtol=1e-12)


def brute_force(outputs, loss, params):
    """J^T H J written out, and its diagonal."""
    flat, unflatten = jax.flatten_util.ravel_pytree(params)
    jacobian = jax.jacfwd(lambda flat: outputs(unflatten(flat)))(flat)
    return unflatten(jnp.diagonal(jacobian.T @ jax.hessian(loss)(outputs(params)) @ jacobian))


@pytest.mark.parametrize("loss", [cross_entropy, lambda z, y: map_loss(z, y, 1.0)], ids=["softmax", "map"])
def test_of_a_convolution_it_is_that_of_the_whole_matrix(loss):
    """Weights that places share have terms between places; and the numbers are not negative."""
    x = jnp.array(RANDOM.normal(size=(1, 5, 5, 2)))
    params = {
        "conv": jnp.array(RANDOM.normal(size=(3, 3, 2, 3))),
        "out": jnp.array(RANDOM.normal(size=(3, 4))),
    }

    def outputs(params):
        maps = jax.lax.conv_general_dilated(
            x, params["conv"], (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        return (jnp.tanh(maps).mean((1, 2)) @ params["out"])[0]

    def of_outputs(z):
        return loss(z[None], jnp.array([2]))[0]

    found, expected = (f(outputs, of_outputs, params) for f in (gauss_newton_diagonal, brute_force))
    for name, value in expected.items():
        assert value.min() > 0
        np.testing.assert_allclose(found[name], value, rtol=1e-9)


def test_curvature_is_estimated_before_each_pass_only_also_under_vmap():
    """h is twice the parameter: at updates 0 and 3 that of then, in between the same."""
    optimizer = diagonal_lm(
        lambda count: 1.0 + count,
        lambda samples: lambda params, i: 2 * params,
        every=3,
        damping=1.0,
        samples=2,
    )

    def run(params):
        def step(carry, _):
            params, state = carry
            updates, state = optimizer.update(jnp.ones(()), state, params)
            return (params + updates, state), (params, state.curvature, updates)

        return jax.lax.scan(step, (params, optimizer.init(params)), None, length=5)[1]

    for params, h, updates in (
        run(jnp.array(4.0)),
        jax.tree.map(lambda x: x[1], jax.vmap(run)(jnp.array([9.0, 4.0]))),
    ):
        np.testing.assert_allclose(h, 2 * params[jnp.array([0, 0, 0, 3, 3])], rtol=1e-12)
        np.testing.assert_allclose(updates, -(1.0 + np.arange(5)) / (1 + h), rtol=1e-12)
