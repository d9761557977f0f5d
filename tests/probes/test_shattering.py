import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax.errors import UserError
from cnnjax.models.shattered import HiddenLayers, ScalarNet
from cnnjax.probes import shattering, theory


def test_autocorrelation_of_noise(key):
    brown = shattering.autocorrelation(shattering.brown_noise(key, (200, 256))).mean(0)
    white = shattering.autocorrelation(shattering.white_noise(key, (200, 256))).mean(0)
    assert brown[0] == white[0] == 1
    assert 0.65 < brown[8] < 0.82
    assert (jnp.diff(brown) < 0).all()
    np.testing.assert_allclose(white[1:], -1 / 256, atol=0.015)


def test_autocorrelation_by_hand():
    # Mean 0; lag 1: (-1 * 2 + 2 * -2 + -2 * 1) / (1 + 4 + 4 + 1)
    found = shattering.autocorrelation(jnp.array([-1.0, 2.0, -2.0, 1.0]) + 5, lags=2)
    np.testing.assert_allclose(found, [1, -0.8, 0.4], rtol=1e-6)


def test_correlation_of_parallel_and_orthogonal_gradients():
    one = np.random.default_rng(0).normal(size=7)
    parallel = np.outer([1.0, 2.0, 3.0], one)
    np.testing.assert_allclose(shattering.correlation(parallel), 1, rtol=1e-6)
    assert shattering.mean_cosine(jnp.eye(5)) == 0
    np.testing.assert_allclose(shattering.covariance(np.stack([parallel, -parallel])),
                               np.outer([1, 2, 3], [1, 2, 3]) * np.mean(one**2),
                               rtol=1e-5)  # fmt: skip


def test_effective_rank(key):
    assert shattering.effective_rank(jnp.eye(6)) == pytest.approx(6)
    assert shattering.effective_rank(jnp.ones((6, 9))) == pytest.approx(1, rel=1e-5)
    noise = jax.random.normal(key, (256, 768))
    assert shattering.effective_rank(noise) == pytest.approx(
        theory.gaussian_effective_rank(768, 256), rel=0.05
    )


def gradients(model, key, inputs):
    """Gradient of the summed output by each input, [input, ...], with new weights."""
    variables = model.init(key, inputs)
    return jax.grad(lambda x: model.apply(variables, x).sum())(inputs)


@pytest.mark.parametrize(
    ("net", "norm", "beta", "low", "high"),
    [("feedforward", "batch", 1.0, -0.1, 0.1), ("residual", "batch", 1.0, 0.5, 0.85),
     ("residual", "batch", 0.1, 0.85, 1.0), ("feedforward", "none", 1.0, 0.6, 1.0)],
)  # fmt: skip
def test_gradients_shatter_with_normalisation_and_shortcuts_mend_them(key, net, norm, beta, low, high):
    depth = 24 if (net, norm) == ("feedforward", "batch") else 50
    model = ScalarNet(net, depth, norm=norm, beta=beta)
    grid = jnp.linspace(-2, 2, 256)
    several = jax.jit(lambda keys: jax.lax.map(lambda key: gradients(model, key, grid), keys))
    found = several(jax.random.split(key, 4))
    assert low < shattering.autocorrelation(found)[:, 1].mean() < high


def test_frozen_statistics_make_each_inputs_gradient_its_own(key, x64):
    model = ScalarNet("residual", 3, width=16, beta=0.5)
    grid = jnp.linspace(-2, 2, 9)

    @jax.jit
    def both(key):
        variables = model.init(key, grid)
        return jax.jacobian(lambda t: model.apply(variables, t))(grid), gradients(model, key, grid)

    jacobian, own = both(key)
    np.testing.assert_allclose(jacobian, np.diag(own), rtol=1e-9)


def by_numpy(params, t, norm, beta, held=None):
    """A residual `ScalarNet`'s outputs [point], and the statistics of its layers; `held` ones stay."""
    x, found = np.maximum(t[:, None] - params["thresholds"], 0) @ params["first"], []
    for layer, kernel in enumerate(params["layers"]["kernel"]):
        mean, deviation = x.mean(0), x.std(0) if norm == "batch" else np.ones(x.shape[1])
        found.append((mean, deviation))
        mean, deviation = held[layer] if held else (mean, deviation)
        x = x + beta * np.maximum((x - mean) / deviation, 0) @ kernel
    return x @ params["readout"], found


@pytest.mark.parametrize("norm", ["center", "batch"])
def test_derivatives_are_finite_differences_with_statistics_held_or_not(key, x64, norm):
    """Frozen: of a point's own output; batch: of the sum of all outputs, which all statistics change."""
    model = ScalarNet("residual", 4, width=8, norm=norm, beta=0.7)
    grid, step = np.linspace(-2, 2, 7), 1e-6
    variables = jax.tree.map(np.asarray, model.init(key, grid))

    def derivatives(statistics):
        net = model.clone(statistics=statistics)
        return jax.grad(lambda t: net.apply(variables, t).sum())(grid)

    found = {statistics: derivatives(statistics) for statistics in ("frozen", "batch")}
    held = by_numpy(variables["params"], grid, norm, 0.7)[1]

    def differences(held):
        changed = (grid + sign * step * np.eye(len(grid)) for sign in (1, -1))
        above, below = (
            np.stack([by_numpy(variables["params"], t, norm, 0.7, held)[0] for t in each]) for each in changed
        )
        return (above - below) / (2 * step)  # [changed point, output]

    np.testing.assert_allclose(found["frozen"], np.diag(differences(held)), rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(found["batch"], differences(None).sum(1), rtol=1e-6, atol=1e-7)
    assert np.abs(found["batch"] - found["frozen"]).max() > 0.1 * np.abs(found["frozen"]).max()


def test_a_looks_linear_net_is_linear_and_its_gradients_are_one(key):
    model = HiddenLayers("feedforward", 50, width=32, norm="none", weights="looks_linear")
    inputs = jax.random.normal(key, (8, 32))

    @jax.jit
    def both(key):
        variables = model.init(key, inputs)
        return gradients(model, key, inputs), jax.jacobian(lambda x: model.apply(variables, x[None])[0])(
            inputs[0]
        )

    found, jacobian = both(key)
    np.testing.assert_allclose(found, np.tile(found[:1], (8, 1)), rtol=1e-5, atol=1e-6)
    assert shattering.mean_cosine(found) == pytest.approx(1, abs=1e-5)
    np.testing.assert_allclose(np.linalg.svd(jacobian, compute_uv=False), 1, rtol=1e-4)


def test_bad_nets():
    with pytest.raises(UserError, match="none, center, batch"):
        HiddenLayers("feedforward", 2, norm="layer")
