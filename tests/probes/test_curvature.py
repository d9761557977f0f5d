import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from cnnjax.probes import curvature
from tests.nets import TwoConvolutions

pytestmark = pytest.mark.usefixtures("x64")


def symmetric(eigenvalues):
    rotation, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(len(eigenvalues),) * 2))
    return rotation @ np.diag(eigenvalues) @ rotation.T


def test_a_quadratic(key):
    """One eigenvalue is apart, and there is one of larger magnitude below 0."""
    eigenvalues = np.array([-12, *np.linspace(-1, 2, 38), 10])
    matrix = symmetric(eigenvalues)
    params = {"a": jnp.zeros((4, 5)), "b": jnp.zeros(20)}

    def loss(params):
        x, _ = ravel_pytree(params)
        return x @ matrix @ x / 2

    @jax.jit
    def measure(key):
        product, size = curvature.hessian_product(loss, params)
        assert size == 40
        values, weights = curvature.spectrum(product, size, key, steps=50, draws=200)
        return {
            "product": product(jnp.eye(size)[3]),
            "spectrum": (values, weights),
            "top": curvature.top_eigenvalue(product, size, key, steps=15),
            "trace": curvature.trace(product, size, key, draws=200),
            "density": curvature.density(values, weights, jnp.linspace(-20, 20, 801), 0.5),
        }

    found = measure(key)
    np.testing.assert_allclose(found["product"], matrix[3], atol=1e-6)
    values, weights = found["spectrum"]
    assert values.shape == (200, 40)
    np.testing.assert_allclose(values, np.tile(eigenvalues, (200, 1)), atol=1e-3)
    np.testing.assert_allclose(weights.sum(1), 1, atol=1e-5)
    np.testing.assert_allclose(weights.mean(0), 1 / 40, atol=0.01)
    assert found["top"] == pytest.approx(10, rel=1e-4)
    estimate, error = found["trace"]
    assert abs(estimate - eigenvalues.sum()) < 4 * error
    off_diagonal = matrix - np.diag(np.diag(matrix))
    assert error == pytest.approx(np.sqrt(2 * (off_diagonal**2).sum() / 200), rel=0.2)
    assert found["density"].sum() * 0.05 == pytest.approx(1, abs=1e-3)


def test_equal_eigenvalues_are_one_value(key):
    """Three distinct ones, each many times: Lanczos has found all after three steps, and goes on unharmed."""
    matrix = symmetric(np.repeat([-1.0, 2.0, 5.0], [10, 20, 10]))
    lanczos = jax.jit(lambda v: curvature.lanczos(lambda v: matrix @ v, v, 8))
    start = jax.random.normal(key, (40,))
    values, weights = (np.asarray(x) for x in lanczos(start))
    assert weights.sum() == pytest.approx(1, abs=1e-5)
    near = np.abs(values[:, None] - np.array([-1, 2, 5])) < 1e-3
    assert weights[near.any(1)].sum() > 1 - 1e-5
    assert sum(weights * values**2) == pytest.approx(float(jnp.sum((matrix @ start) ** 2) / (start @ start)))


def test_against_the_dense_hessian_of_a_network(key):
    """417 parameters, BatchNorm of the batch; dense by forward over reverse."""
    model = TwoConvolutions((4, 7), dtype=jnp.float64)
    images, labels = jax.random.normal(key, (4, 4, 4, 3)), jnp.array([0, 1, 2, 0])

    @jax.jit
    def measure(key):
        variables = model.init(key, images, train=False)
        flat, unravel = ravel_pytree(variables["params"])
        loss = curvature.batch_loss(model, variables, (images, labels))
        product, size = curvature.hessian_product(loss, variables["params"])
        gradient = jax.grad(lambda x: loss(unravel(x)))
        dense = jax.lax.map(lambda v: jax.jvp(gradient, (flat,), (v,))[1], jnp.eye(size))
        return dense, curvature.spectrum(product, size, key, steps=40, draws=8)

    dense, (values, weights) = jax.tree.map(np.asarray, measure(key))
    assert dense.shape == (417, 417)
    np.testing.assert_allclose(dense, dense.T, atol=1e-9 * np.abs(dense).max())
    exact = np.linalg.eigvalsh(np.asarray(dense, np.float64))
    np.testing.assert_allclose(values[:, [0, -1]], np.tile(exact[[0, -1]], (8, 1)), rtol=1e-3)
    moments = [(weights * values**k).sum(1).mean() for k in (0, 1, 2)]
    spread = np.sqrt(2 * (exact**2).sum() / 8) / len(exact)  # of the mean of 8 draws
    assert moments[0] == pytest.approx(1, abs=1e-4)
    assert moments[1] == pytest.approx(exact.mean(), abs=4 * spread)
    assert moments[2] == pytest.approx((exact**2).mean(), rel=0.5)


def test_gauss_newton_is_the_fisher_information_and_the_empirical_one_is_of_the_labels(key):
    """Against sums over samples and classes of outer products of gradients, each by itself."""
    params = {"a": jax.random.normal(key, (3, 4)), "b": jax.random.normal(key, (4, 5))}
    images, labels = jax.random.normal(key, (6, 3)), jnp.array([0, 1, 2, 3, 4, 0])

    def model(params, x):
        return jnp.tanh(x @ params["a"]) @ params["b"]

    @jax.jit
    def matrices(params):
        flat, unravel = ravel_pytree(params)

        def log_odds(flat):
            return jax.nn.log_softmax(model(unravel(flat), images))

        gradients, odds = jax.jacobian(log_odds)(flat), jnp.exp(log_odds(flat))
        information = jnp.einsum("nc,ncp,ncq->pq", odds, gradients, gradients) / len(labels)
        own = gradients[jnp.arange(len(labels)), labels]
        products = (
            curvature.ggn_product(model, params, (images, labels)),
            curvature.empirical_fisher_product(model, params, (images, labels)),
        )
        dense = [jax.vmap(product)(jnp.eye(size)) for product, size in products]
        return dense, (information, own.T @ own / len(labels))

    for found, expected in zip(*matrices(params), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-12)
