"""Vital signs against closed forms and second paths, in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

from cnnjax.diagnosis import instruments
from cnnjax.diagnosis.scaling import Scaling
from cnnjax.diagnosis.trial import training_step, untouched
from cnnjax.diagnosis.vitals import vital_signs
from cnnjax.network import as_network
from cnnjax.probes.subject import cross_entropy

pytestmark = pytest.mark.usefixtures("x64")


class Residual(nn.Module):
    """Two blocks; one of them may be skipped in the backward pass."""

    skipped: int = -1

    @nn.compact
    def __call__(self, x):
        options = {"param_dtype": jnp.float64, "dtype": jnp.float64}
        x = nn.Dense(6, name="first", **options)(x)
        for number in range(2):
            branch = nn.Dense(6, name=f"block{number}_in", **options)(x)
            branch = nn.Dense(6, name=f"block{number}_out", **options)(jnp.tanh(branch))
            x = x + (jax.lax.stop_gradient(branch) if number == self.skipped else branch)
        return nn.Dense(3, name="head", **options)(x)


@pytest.fixture(scope="module")
def data():
    draw = np.random.default_rng(0)
    return draw.normal(size=(7, 5)), np.arange(7) % 3


@pytest.fixture(scope="module")
def variables(data):
    with jax.enable_x64(True):
        return Residual().init(jax.random.key(0), data[0])


def test_a_step_and_its_signs(data, variables):
    optimizer = optax.sgd(0.1)
    state = optimizer.init(variables["params"])
    arguments = as_network(Residual()), cross_entropy, optimizer, variables, state, data, jax.random.key(0)
    after, _, value, norms = training_step(*arguments)
    vitals = jax.jit(lambda: vital_signs(*arguments))()
    np.testing.assert_allclose(value, vitals.loss)
    gradients = jax.grad(lambda p: cross_entropy(Residual().apply({"params": p}, data[0]), data[1]).mean())(
        variables["params"]
    )
    jax.tree.map(lambda norm, g: np.testing.assert_allclose(norm, jnp.linalg.norm(g)), norms, gradients)
    jax.tree.map(
        lambda new, old, g: np.testing.assert_allclose(new, old - 0.1 * g, rtol=1e-10),
        after["params"], variables["params"], gradients,
    )  # fmt: skip
    square = sum(float(jnp.sum(g**2)) for g in jax.tree.leaves(gradients))
    np.testing.assert_allclose(vitals.along, 0.1 * square)
    np.testing.assert_allclose(vitals.effective_rate, 0.1)
    kernel = np.asarray(variables["params"]["block0_in"]["kernel"])
    row = vitals.layers.layers.index("block0_in")
    np.testing.assert_allclose(vitals.gain[row], np.sqrt(len(kernel) * np.mean(kernel**2)))
    np.testing.assert_allclose(
        vitals.update_ratio[row],
        0.1 * np.linalg.norm(gradients["block0_in"]["kernel"]) / np.linalg.norm(kernel),
    )
    z = np.asarray(data[0] @ variables["params"]["first"]["kernel"])
    unit = z / np.linalg.norm(z, axis=1, keepdims=True)
    np.testing.assert_allclose(vitals.cosine[0], ((unit @ unit.T).sum() - 7) / 42)
    np.testing.assert_allclose(vitals.largest[0], np.abs(z).max())


@pytest.mark.parametrize(
    ("activation", "slope", "flat"),
    [
        (nn.relu, lambda z: z > 0, lambda z: z <= 0),
        (nn.sigmoid, lambda z: nn.sigmoid(z) * (1 - nn.sigmoid(z)), lambda z: jnp.abs(z) > 4.36),
    ],
)
def test_slopes(activation, slope, flat):
    """The mean square of the slope, and where it is below a twentieth; curves are sampled in steps of 1/4."""
    z = jnp.linspace(-9.1, 9.3, 4000)[:, None]

    def net(params, x):
        return activation(x @ params["w"]) @ params["v"]

    params = {"w": jnp.ones((1, 1)), "v": jnp.ones((1, 2))}
    network = as_network((lambda key, x: params, net))
    vitals = vital_signs(
        network, cross_entropy, optax.sgd(0.1), {"params": params}, optax.sgd(0.1).init(params),
        (z, np.zeros(4000, int)), jax.random.key(0),
    )  # fmt: skip
    np.testing.assert_allclose(vitals.slope[0], jnp.mean(jnp.square(slope(z))), rtol=5e-3)
    np.testing.assert_allclose(vitals.flat[0], jnp.mean(flat(z)), atol=0.03)


def test_a_block_is_skipped_backwards_alone(data, variables):
    found = instruments.skips(as_network(Residual()), variables, data, jax.random.key(0), cross_entropy)

    def first(skipped):
        def loss(params):
            return cross_entropy(Residual(skipped).apply({"params": params}, data[0]), data[1]).mean()

        return jnp.linalg.norm(jax.grad(loss)(variables["params"])["first"]["kernel"])

    np.testing.assert_allclose(found, [first(0) / first(-1), first(1) / first(-1)], rtol=1e-10)


def test_others_are_felt_where_something_is_summed_over_them(data, variables):
    class Mixing(Residual):
        @nn.compact
        def __call__(self, x):
            return super().__call__(x - x.mean(0))

    assert not instruments.depends_on_others(as_network(Residual()), variables, jnp.asarray(data[0]))
    assert instruments.depends_on_others(as_network(Mixing()), variables, jnp.asarray(data[0]))


def test_what_no_gradient_has_reached():
    assert untouched([{"a": 0.0, "b": {"c": 0.0}}, {"a": 1.0, "b": {"c": 0.0}}]) == ["b/c"]


def test_slopes_of_sizes():
    values = np.array([8.0, 16.0, 32.0])
    sizes = 3 * values[:, None, None] ** np.array([[0.0, 1.0, -0.5]])
    found = Scaling("width", tuple(values), ("a", "b", "c"), sizes, sizes)
    np.testing.assert_allclose(found.slopes(sizes), [[0, 1, -0.5]], atol=1e-12)
    assert "grows" in str(Scaling("width", tuple(values), ("a", "b", "c"), np.repeat(sizes, 6, 1), sizes))
