import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import norm

from cnnjax.ops.activations import ACTIVATIONS

POINTS = np.array([[-2.0, 0.5], [3.0, -0.25]], np.float32)
EXPECTED = {
    "sigmoid": 1 / (1 + np.exp(-POINTS)),
    "tanh": np.tanh(POINTS),
    "scaled_tanh": 1.7159 * np.tanh(POINTS * 2 / 3),
    "relu": [[0, 0.5], [3, 0]],
    "leaky_relu": [[-0.02, 0.5], [3, -0.0025]],
    "prelu": [[-0.5, 0.5], [3, -0.0625]],
    "elu": [[np.exp(-2) - 1, 0.5], [3, np.exp(-0.25) - 1]],
    "gelu": POINTS * norm.cdf(POINTS),
}


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_values(name, dtype):
    activation = ACTIVATIONS[name](name="act1")
    x = jnp.asarray(POINTS, dtype)
    y, variables = activation.init_with_output(jax.random.key(0), x)
    np.testing.assert_allclose(
        y.astype(jnp.float32), EXPECTED[name], rtol=1e-5 if dtype == "float32" else 1e-2
    )
    assert y.dtype == x.dtype
    assert jax.tree.map(jnp.shape, variables) == ({"params": {"slope": (2,)}} if name == "prelu" else {})


def test_a_learned_slope_gets_the_sum_of_its_channels_negative_inputs():
    prelu = ACTIVATIONS["prelu"]()
    variables = prelu.init(jax.random.key(0), POINTS)
    slopes = jax.grad(lambda variables: prelu.apply(variables, POINTS).sum())(variables)["params"]["slope"]
    np.testing.assert_allclose(slopes, [-2, -0.25])


def test_scaled_tanh_keeps_plus_and_minus_one():
    np.testing.assert_allclose(ACTIVATIONS["scaled_tanh"]()(jnp.array([-1.0, 1.0])), [-1, 1], atol=2e-5)
