import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from cnnjax.errors import UserError
from cnnjax.ops.conv import CONVOLUTIONS
from cnnjax.ops.norm import BatchNorm
from cnnjax.ops.precision import types
from cnnjax.probes.jacobian import nonlinearity_coefficient, singular_values

pytestmark = pytest.mark.usefixtures("x64")
IMAGES = np.random.default_rng(1).normal(size=(6, 4, 4, 2)) * np.arange(1, 3)
FLOAT64 = types(jnp.float64)


class Net(nn.Module):
    """Linear but for the activation, with the convolution of all networks and BatchNorm."""

    slope: float = 1.0  # of the activation below 0

    @nn.compact
    def __call__(self, x, train):
        x = nn.Conv(3, (3, 3), padding=1, conv_general_dilated=CONVOLUTIONS["auto"], **FLOAT64, name="conv")(
            x
        )
        x = BatchNorm(use_running_average=not train, dtype=jnp.float64, name="bn")(x)
        x = nn.leaky_relu(x, self.slope).reshape(len(x), -1)
        return nn.Dense(5, **FLOAT64, name="classifier")(x)


@pytest.fixture(scope="module")
def variables():
    return jax.jit(lambda: Net().init(jax.random.key(0), IMAGES, train=False))()


@pytest.fixture(scope="module")
def found(variables):
    @jax.jit
    def measure(variables):
        return {
            (slope, mode): (
                singular_values(Net(slope), variables, IMAGES, mode),
                nonlinearity_coefficient(Net(slope), variables, IMAGES, mode),
            )
            for slope, mode in ((1.0, "frozen"), (1.0, "running"), (0.0, "frozen"))
        }

    return measure(variables)


def matrix(variables, std):
    """The linear net's, [48, 5]: its answer to every unit image, by numpy."""
    kernel, classifier = (np.asarray(variables["params"][name]["kernel"]) for name in ("conv", "classifier"))
    rows = []
    for pixel in np.eye(32).reshape(32, 4, 4, 2):
        padded = np.pad(pixel, ((1, 1), (1, 1), (0, 0)))
        z = [
            [np.einsum("hwc,hwcf", padded[i : i + 3, j : j + 3], kernel) for j in range(4)] for i in range(4)
        ]
        rows.append((np.array(z) / std).ravel() @ classifier)
    return np.array(rows)


def test_a_linear_network(variables, found):
    values, coefficient = found[1.0, "running"]
    expected = np.linalg.svd(matrix(variables, np.sqrt(1 + 1e-5)), compute_uv=False)
    np.testing.assert_allclose(values, np.tile(expected, (6, 1)), rtol=1e-9)
    assert coefficient == pytest.approx(1, abs=1e-9)
    values, coefficient = found[1.0, "frozen"]
    z = nn.Conv(3, (3, 3), padding=1, **FLOAT64).apply({"params": variables["params"]["conv"]}, IMAGES)
    std = np.sqrt(np.var(np.asarray(z), (0, 1, 2)) + 1e-5)
    expected = np.linalg.svd(matrix(variables, std), compute_uv=False)
    np.testing.assert_allclose(values, np.tile(expected, (6, 1)), rtol=1e-9)
    assert coefficient == pytest.approx(1, abs=1e-9)


def test_the_coefficient_by_its_definition(variables, found):
    """From the Jacobians written out and the covariance of the images."""
    z = nn.Conv(3, (3, 3), padding=1, **FLOAT64).apply({"params": variables["params"]["conv"]}, IMAGES)
    mean, std = z.mean((0, 1, 2)), jnp.sqrt(z.var((0, 1, 2)) + 1e-5)
    params = variables["params"]

    def logits(image):
        z = nn.Conv(3, (3, 3), padding=1, **FLOAT64).apply(
            {"params": params["conv"]}, image.reshape(1, 4, 4, 2)
        )
        return nn.relu((z - mean) / std).ravel() @ params["classifier"]["kernel"]

    flat = IMAGES.reshape(6, -1)
    jacobians = np.asarray(jax.jit(jax.vmap(jax.jacfwd(logits)))(flat))
    outputs = np.asarray(jax.jit(jax.vmap(logits))(flat))
    covariance = np.cov(np.asarray(flat).T, bias=True)
    mean_trace = np.mean([np.trace(j @ covariance @ j.T) for j in jacobians])
    values, coefficient = found[0.0, "frozen"]
    assert coefficient == pytest.approx(np.sqrt(mean_trace / outputs.var(0).sum()), rel=1e-9)
    assert coefficient > 1
    np.testing.assert_allclose(values, np.linalg.svd(jacobians, compute_uv=False), rtol=1e-9, atol=1e-12)


def test_the_batchs_statistics_have_no_jacobian_of_one_sample(variables):
    for measure in (singular_values, nonlinearity_coefficient):
        with pytest.raises(UserError, match="must be frozen or running"):
            measure(Net(), variables, IMAGES, "batch")
