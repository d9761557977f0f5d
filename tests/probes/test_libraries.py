"""One network in every library: the same weights give the same statistics."""

import os

os.environ.setdefault("KERAS_BACKEND", "jax")

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from cnnjax.models import build
from cnnjax.probes import layer_statistics
from cnnjax.probes.subject import as_subject

libraries = pytest.importorskip("tests.probes.libraries", reason="pip install equinox dm-haiku keras")


@pytest.fixture(scope="module")
def ours():
    model = build("resnet8", width=4, convolution="native")
    draw = np.random.default_rng(0).normal
    x, y = jnp.asarray(draw(size=(6, 8, 8, 3)), jnp.float32), jnp.array([0, 1, 2, 3, 4, 0])
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), x, train=False))
    variables = jax.tree.map(lambda leaf: jnp.asarray(draw(size=leaf.shape) * 0.4, leaf.dtype), shapes)
    statistics = jax.jit(lambda variables: layer_statistics(model, variables, (x, y)))(variables)
    return variables, (x, y), statistics


@pytest.mark.parametrize("library", libraries.IN)
def test_statistics_are_those_of_ours(ours, library):
    variables, batch, expected = ours
    other, its_own = libraries.IN[library](flatten_dict(variables["params"], sep="/"))
    network, of_other = as_subject(other, its_own)
    found = jax.jit(lambda variables: layer_statistics(network, variables, batch))(of_other)
    assert len(found.layers) == len(set(found.layers)) == 8
    for name, value in expected.arrays().items():
        if isinstance(value, jax.Array):
            np.testing.assert_allclose(found.arrays()[name], value, rtol=1e-5, atol=1e-7, err_msg=name)
