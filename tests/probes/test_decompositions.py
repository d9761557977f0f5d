import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.core import jaxprs_in_params

from cnnjax.probes import curvature, decompositions
from cnnjax.probes.jacobian import singular_values
from cnnjax.probes.samples import sample_statistics
from tests.nets import TwoConvolutions

IMAGES = np.random.default_rng(0).normal(size=(4, 6, 6, 3)).astype(np.float32)
LABELS = np.array([0, 1, 2, 0])
NET = TwoConvolutions()
DECOMPOSE = {"eigh", "svd", "qr", "lu", "cholesky", "triangular_solve"}


def sharpness(variables):
    product, size = curvature.ggn_product(NET, variables, (IMAGES, LABELS))
    return curvature.top_eigenvalue(product, size, jax.random.key(0), steps=4)


INSTRUMENTS = {
    "samples": lambda variables: sample_statistics(NET, variables, (IMAGES, LABELS)),
    "Jacobian": lambda variables: singular_values(NET, variables, IMAGES),
    "sharpness": sharpness,
}


@pytest.mark.parametrize("name", INSTRUMENTS)
def test_matrices_are_decomposed_one_at_a_time(name):
    # Two batches at once in one program can wait for each other forever, so that no run would show it.
    def of_seeds(keys):
        return jax.vmap(lambda key: INSTRUMENTS[name](NET.init(key, IMAGES, train=False)))(keys)

    everything = equations(jax.make_jaxpr(of_seeds)(jax.random.split(jax.random.key(0), 3)).jaxpr)
    ours = [eqn for eqn in everything if eqn.primitive.name in DECOMPOSE]
    assert ours
    assert all(eqn.invars[0].aval.ndim == 2 for eqn in ours)


def equations(jaxpr):
    for eqn in jaxpr.eqns:
        yield eqn
        for inner in jaxprs_in_params(eqn.params):
            yield from equations(inner)


def test_against_numpy():
    matrices = np.random.default_rng(1).normal(size=(2, 3, 4, 4))
    symmetric = jnp.asarray(matrices + matrices.swapaxes(-1, -2))

    @jax.jit
    def found(symmetric):
        twice = lambda function: jax.vmap(jax.vmap(function))  # noqa: E731
        return (
            twice(decompositions.eigenvalues)(symmetric),
            twice(decompositions.eigenvectors)(symmetric),
            twice(decompositions.singular_values)(symmetric),
        )

    values, (again, vectors), singular = found(symmetric)
    np.testing.assert_allclose(values, np.linalg.eigvalsh(symmetric), atol=1e-5)
    np.testing.assert_allclose(again, values, atol=1e-5)
    np.testing.assert_allclose(symmetric @ vectors, vectors * again[..., None, :], atol=1e-5)
    np.testing.assert_allclose(singular, np.linalg.svd(symmetric, compute_uv=False), atol=1e-5)
