import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax.ops.lrn import local_response_norm, response_norm_within_maps


def by_hand(x, size, alpha, beta, k):
    result = np.empty_like(x)
    channels = x.shape[-1]
    for i in range(channels):
        window = range(max(0, i - size // 2), min(channels, i + (size + 1) // 2))
        result[..., i] = x[..., i] / (k + alpha * sum(x[..., j] ** 2 for j in window)) ** beta
    return result


@pytest.mark.parametrize("size", [1, 3, 4, 5, 9])
def test_equals_the_papers_formula(size):
    x = np.random.default_rng(size).normal(size=(2, 3, 3, 7))
    ours = local_response_norm(jnp.asarray(x, jnp.float32), size, 0.5, 0.75, 2.0)
    np.testing.assert_allclose(ours, by_hand(x, size, 0.5, 0.75, 2.0), rtol=1e-5)
    mean = local_response_norm(jnp.asarray(x, jnp.float32), size, 0.5 * size, 0.75, 2.0, alpha_per="mean")
    np.testing.assert_allclose(mean, ours, rtol=1e-6)


def test_gradient_is_that_of_the_formula():
    x = np.random.default_rng(0).normal(size=(1, 6))
    upstream, direction = np.random.default_rng(1).normal(size=(2, 1, 6))
    gradient = jax.grad(lambda x: (local_response_norm(x, 5, 0.3, 0.75, 1.0) * upstream).sum())(
        jnp.asarray(x, jnp.float32)
    )
    step = 1e-5
    ahead, behind = (by_hand(x + sign * step * direction, 5, 0.3, 0.75, 1.0) for sign in (1, -1))
    np.testing.assert_allclose(
        (gradient * direction).sum(), ((ahead - behind) * upstream).sum() / (2 * step), rtol=1e-4
    )


def test_bfloat16_is_computed_in_float32():
    x = jax.random.normal(jax.random.key(0), (4, 8), jnp.bfloat16)
    half = local_response_norm(x, 5, 1e-4, 0.75, 2.0)
    assert half.dtype == jnp.bfloat16
    exact = local_response_norm(x.astype(jnp.float32), 5, 1e-4, 0.75, 2.0)
    np.testing.assert_array_equal(half, exact.astype(jnp.bfloat16))


def test_within_maps_the_window_is_square():
    x = np.random.default_rng(0).normal(size=(1, 4, 5, 2))
    squares = np.pad(x**2, ((0, 0), (1, 1), (1, 1), (0, 0)))
    means = sum(squares[:, i : i + 4, j : j + 5] for i in range(3) for j in range(3)) / 9
    ours = response_norm_within_maps(jnp.asarray(x, jnp.float32), 3, 0.5, 0.75, 1.0)
    np.testing.assert_allclose(ours, x / (1 + 0.5 * means) ** 0.75, rtol=1e-5)
