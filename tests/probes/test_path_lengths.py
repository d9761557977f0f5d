"""Gradients by the length of paths: closed forms, and all paths one by one, in float64."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import cnnjax
from cnnjax.errors import UserError
from cnnjax.probes import gradients_by_length, input_gradients, path_lengths
from cnnjax.probes.path_lengths import binomial, distribution, random_paths

pytestmark = pytest.mark.usefixtures("x64")
draw = np.random.default_rng(0).normal
BLOCKS, WIDTH = 4, 5
PARAMS = {
    "stem": draw(size=(WIDTH, WIDTH)),
    "blocks": 0.4 * draw(size=(BLOCKS, WIDTH, WIDTH)),
    "head": draw(size=(WIDTH, 3)),
}
BATCH = draw(size=(6, WIDTH)), np.arange(6) % 3


def linear(params, x):
    x = x @ params["stem"]
    for block in params["blocks"]:
        x = x + x @ block
    return x @ params["head"]


def scanned(params, x):
    x = lax.scan(
        jax.checkpoint(lambda x, block: (x + x @ block, None)), x @ params["stem"], params["blocks"]
    )[0]
    return x @ params["head"]


def first(outputs, labels):
    return outputs[:, 0]


@pytest.mark.parametrize("function", [linear, scanned])
def test_a_linear_network_has_a_closed_form(function):
    """The sum over all choices of k blocks of the products of their matrices."""
    found = gradients_by_length(function, PARAMS, BATCH, losses=first)
    assert found.shape == (BLOCKS + 1, *BATCH[0].shape)
    for length in range(BLOCKS + 1):
        products = [
            np.linalg.multi_dot([np.eye(WIDTH), *(PARAMS["blocks"][n] for n in chosen), np.eye(WIDTH)])
            for chosen in itertools.combinations(range(BLOCKS), length)
        ]
        expected = PARAMS["stem"] @ np.sum(products, 0) @ PARAMS["head"][:, 0]
        np.testing.assert_allclose(found[length], np.tile(expected, (6, 1)), rtol=1e-11)


def test_equal_scalar_blocks_are_binomial():
    """x (1 + a)^n: paths of length k bring (n choose k) a^k, and each one a^k."""
    a, n = 0.3, 6
    params = {"stem": np.ones((1, 1)), "blocks": np.full((n, 1, 1), a), "head": np.ones((1, 2))}
    batch = np.ones((2, 1)), np.zeros(2, int)
    found = path_lengths(linear, params, batch, jax.random.key(0), draws=2, losses=first)
    lengths = np.arange(n + 1)
    np.testing.assert_allclose(found.single[:, 0], a**lengths, rtol=1e-12)
    np.testing.assert_allclose(found.exact[:, 0], [math.comb(n, k) * a**k for k in lengths], rtol=1e-12)
    np.testing.assert_allclose(distribution(found.exact), distribution(found.single, single=True), rtol=1e-12)
    assert distribution(found.exact) @ lengths == pytest.approx(n * a / (1 + a))


@pytest.fixture(scope="module")
def network():
    images = jnp.asarray(draw(size=(3, 6, 6, 1)))
    model = cnnjax.build("resnet8", width=4, dtype=jnp.float64)
    return model, model.init(jax.random.key(0), images, train=False), (images, jnp.array([0, 1, 2]))


def test_lengths_add_up_to_the_gradient(network):
    model, variables, batch = network
    both = jax.jit(lambda v: (gradients_by_length(model, v, batch), input_gradients(model, v, batch)))
    found, expected = both(variables)
    np.testing.assert_allclose(found.sum(0), expected, rtol=1e-9, atol=1e-12)
    assert len(found) == 4


def test_one_path_is_the_product_along_it(network):
    """Of length 0 and n there is one path, so the sampled norm is the exact one."""
    model, variables, batch = network
    measure = jax.jit(lambda v: path_lengths(model, v, batch, jax.random.key(1), draws=2))
    found = measure(variables)
    for length in (0, 3):
        np.testing.assert_allclose(found.single[length], found.exact[length], rtol=1e-9)
    assert found.gap.max() < 1e-10
    assert found.blocks[0] == "stage1_block01"
    paths = random_paths(jax.random.key(1), 6, 2)
    np.testing.assert_array_equal(paths.sum(-1), np.arange(7)[:, None] * np.ones(2))


def test_shares_of_paths():
    assert binomial(54)[5:18].sum() == pytest.approx(0.004537, rel=1e-3)  # Veit et al.'s 0.45 %
    assert binomial(54)[19:36].sum() > 0.95


def test_mistakes_are_one_line():
    with pytest.raises(UserError, match="no residual blocks"):
        path_lengths(lambda params, x: x @ params, PARAMS["head"], BATCH, jax.random.key(0))
    plain, images = cnnjax.build("plain8", width=2), jnp.zeros((2, 8, 8, 1))
    variables = plain.init(jax.random.key(0), images, train=False)
    with pytest.raises(UserError, match="no residual blocks"):
        gradients_by_length(plain, variables, (images, jnp.zeros(2, int)))
    with pytest.raises(UserError, match="frozen or running"):
        path_lengths(linear, PARAMS, BATCH, jax.random.key(0), statistics="batch")
