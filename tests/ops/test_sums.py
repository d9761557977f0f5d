"""Sums over images, against float64 and against the same arithmetic by XLA."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax.ops import direct, sums
from cnnjax.ops.conv import compiled_for
from tests.gradients import compiled

pytestmark = pytest.mark.skipif(direct.load() is not None, reason=f"{direct.load()}")
SHAPES = [(1, 1), (7, 3), (130, 16), (2, 9, 11, 64), (5, 7, 70), (40, 32, 32, 12), (3, 2100)]


def draw(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("shape", SHAPES)
def test_moments_are_those_of_float64_however_far_from_zero(shape):
    x = draw(*shape) + 1000 * draw(shape[-1], seed=1)
    axes = tuple(range(len(shape) - 1))
    mean, var = jax.jit(sums.moments)(x)
    np.testing.assert_allclose(mean, x.astype(np.float64).mean(axes), rtol=1e-6)
    np.testing.assert_allclose(var, x.astype(np.float64).var(axes), rtol=1e-5, atol=1e-12)


@pytest.mark.parametrize("shape", SHAPES)
def test_gradients_of_gain_and_offset_are_those_of_float64(shape):
    x, upstream = draw(*shape) + 100, draw(*shape, seed=1)
    centre = x.mean(tuple(range(len(shape) - 1)))
    ones = np.ones(shape[-1], np.float32)
    _, pull = jax.vjp(partial(sums.scale_shift, x, centre), ones, ones)
    of_gain, of_offset = pull(jnp.asarray(upstream))
    x, upstream = (each.astype(np.float64).reshape(-1, shape[-1]) for each in (x, upstream))
    size = np.sqrt(len(x))
    np.testing.assert_allclose(of_offset, upstream.sum(0), atol=1e-6 * size)
    np.testing.assert_allclose(of_gain, ((x - centre) * upstream).sum(0), atol=2e-6 * size)


@pytest.mark.parametrize("shape", [(1, 1), (6, 3, 5, 7), (300, 9, 16), (5, 4, 2100)])
def test_positive_samples_and_their_pairs_are_counted(shape):
    x = np.round(draw(*shape) * 4) / 4  # zeros, too; and no rounding
    centre, gain, offset = (np.round(4 * draw(shape[-1], seed=seed)) / 4 for seed in (1, 2, 3))
    counts, pairs = jax.jit(sums.positives)(x, centre, gain, offset)
    times = ((x - centre) * gain + offset > 0).sum(0).reshape(-1, shape[-1])
    np.testing.assert_array_equal(counts, times.sum(0))
    np.testing.assert_array_equal(pairs, (times * (times - 1)).sum(0))


@pytest.mark.parametrize("size", [0, 1, 17, 600_001])
@pytest.mark.parametrize("scale", [1e-30, 1, 1e30])
def test_the_norm_of_numbers_whose_squares_are_no_float32(size, scale):
    x = scale * draw(size)
    for norm in (sums.norm, lambda x: sums._norm_by_xla(x, (0,))[0]):
        np.testing.assert_allclose(jax.jit(norm)(x), np.linalg.norm(x.astype(np.float64)), rtol=1e-5)


def normalized(x, gain, offset):
    mean, var = sums.moments(x)
    return jnp.tanh(sums.scale_shift(x, mean, gain / jnp.sqrt(var + 0.1), offset - mean))


def every_derivative(x, gain, offset):
    """Of first and second order, in forward and in reverse mode, and of groups."""
    arguments = x, gain, offset
    changes = tuple(map(jnp.cos, arguments))

    def slope(*arguments):
        return jax.grad(lambda *arguments: jnp.sin(normalized(*arguments)).sum(), (0, 1, 2))(*arguments)

    groups = jax.vmap(lambda x: jax.grad(lambda x: normalized(x, gain, offset)[0].sum())(x))
    of_each = jax.vmap(lambda i: jax.grad(lambda x: normalized(x, gain, offset)[i].sum())(x))
    return (
        normalized(*arguments),
        slope(*arguments),
        jax.jvp(slope, arguments, changes)[1],
        jax.grad(lambda *arguments: sum(jnp.cos(s).sum() for s in slope(*arguments)), (0, 1, 2))(*arguments),
        groups(jnp.stack([x, 2 * x + 1, jnp.sin(x)], 2).transpose(2, 0, 1)),
        of_each(jnp.arange(3)),
    )


def test_derivatives_are_those_of_xla():
    arguments = draw(6, 5, seed=1), draw(5, seed=2), draw(5, seed=3)
    ours = compiled(every_derivative, *arguments)(*arguments)
    with compiled_for("tpu"):
        theirs = compiled(lambda *arguments: every_derivative(*arguments), *arguments)(*arguments)
    for mine, reference in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(mine, reference, rtol=1e-3, atol=1e-4 * np.abs(reference).max())


def test_a_training_step_reads_the_images_twice():
    x, ones = jnp.ones((4, 5)), jnp.ones(5)
    step = jax.jit(jax.grad(lambda *arguments: normalized(*arguments).sum(), (0, 1, 2)))
    text = step.lower(x, ones, ones).as_text()
    assert [text.count(f"@cnnjax_{name}") for name in ("moments", "products")] == [1, 1]


def test_an_exported_program_has_none_of_our_code():
    exported = jax.export.export(jax.jit(normalized))(jnp.ones((4, 5)), jnp.ones(5), jnp.ones(5))
    assert "cnnjax_" not in exported.mlir_module()


def test_numbers_of_another_type_are_xlas():
    x, ones = jnp.ones((4, 5)), jnp.ones(5)
    with jax.enable_x64(True):
        wider = ones.astype(jnp.float64)
        assert sums.scale_shift(x, wider, ones, ones).dtype == jnp.float64
        assert sums.positives(x, ones, ones, wider)[0].shape == (5,)
    with pytest.raises(TypeError, match="must all be float32"):
        direct.sums("norm", ones.astype(jnp.bfloat16), shape=(), leading=0, results=1)
