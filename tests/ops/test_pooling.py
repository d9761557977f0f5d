"""Against loops over windows, written down independently from the definition."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax.errors import UserError
from cnnjax.ops.pooling import adaptive_average_pool, average_pool, max_pool
from tests.gradients import compiled

CASES = [
    (size, strides, padding, ceil)
    for (size, strides), padding, ceil in itertools.product(
        [(2, 2), (3, 2), (3, 1), (2, 3), (5, 3)], [0, 1], [False, True]
    )
]


def output_size(length, size, strides, padding, ceil):
    """How many windows fit, or with `ceil` start soon enough."""
    starts = range(-padding, length + padding, strides)
    if not ceil:
        return len([start for start in starts if start + size <= length + padding])
    whole = length + 2 * padding - size
    return len([start for start in starts if start < length and start + padding < whole + strides])


def by_hand(x, size, strides, padding, ceil, reduce):
    batch, height, width, channels = x.shape
    rows, columns = (output_size(length, size, strides, padding, ceil) for length in (height, width))
    result = np.empty((batch, rows, columns, channels))
    for row, column in itertools.product(range(rows), range(columns)):
        spans = [
            range(start, start + size) for start in (row * strides - padding, column * strides - padding)
        ]
        result[:, row, column] = reduce(x, *spans)
    return result


def maximum(x, rows, columns):
    pixels = [x[:, r, c] for r in rows for c in columns if 0 <= r < x.shape[1] and 0 <= c < x.shape[2]]
    return np.max(pixels, axis=0)


def mean(count_padding, padding):
    def reduce(x, rows, columns):
        _, height, width, _ = x.shape
        pixels = [x[:, r, c] for r in rows for c in columns if 0 <= r < height and 0 <= c < width]
        edge = padding if count_padding else 0
        inside = [
            (r, c) for r in rows for c in columns if -edge <= r < height + edge and -edge <= c < width + edge
        ]
        return np.sum(pixels, axis=0) / len(inside)

    return reduce


@pytest.mark.parametrize(("size", "strides", "padding", "ceil"), CASES)
def test_pools_are_those_of_the_definition(size, strides, padding, ceil):
    x = np.random.default_rng(size).normal(size=(2, 7 + padding, 10, 3)).astype(np.float32)
    window = (size, strides, padding, ceil)

    def pools(x):
        means = (average_pool(x, *window, count_padding) for count_padding in (True, False))
        return max_pool(x, *window), *means

    maxima, *means = compiled(pools, x)(x)
    np.testing.assert_array_equal(maxima, by_hand(x, *window, maximum))
    for ours, count_padding in zip(means, (True, False), strict=True):
        expected = by_hand(x, *window, mean(count_padding, padding))
        np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("length", "window", "down", "up"),
    [
        (112, (3, 2, 0), 55, 56),  # GoogLeNet's first pooling, ResNet's in Caffe
        (112, (3, 2, 1), 56, 57),
        (110, (3, 2, 0), 54, 55),  # ZFNet
        (32, (3, 2, 0), 15, 16),  # cuda-convnet's on CIFAR-10
        (55, (3, 2, 0), 27, 27),  # AlexNet
        (4, (2, 2, 1), 3, 3),
        (4, (2, 3, 1), 2, 2),  # a third window would start in the right padding
        (1, (2, 2, 1), 1, 1),
    ],
)
def test_output_sizes(length, window, down, up):
    x = jax.ShapeDtypeStruct((1, length, length, 1), jnp.float32)
    for ceil, expected in ((False, down), (True, up)):
        for pool in (max_pool, average_pool):
            shape = jax.eval_shape(lambda x, pool=pool, ceil=ceil: pool(x, *window, ceil=ceil), x).shape
            assert shape == (1, expected, expected, 1)


def test_a_mean_beyond_the_padding_has_fewer_terms():
    ones = jnp.ones((1, 4, 4, 1))
    counted = average_pool(ones, 3, 2, padding=1, ceil=True)
    np.testing.assert_allclose(counted[0, :, :, 0], np.outer([2 / 3, 1, 1 / 2], [2 / 3, 1, 1 / 2]), rtol=1e-6)
    np.testing.assert_allclose(average_pool(ones, 3, 2, 1, True, count_padding=False), 1, rtol=1e-6)


def test_the_first_of_equal_maxima_gets_the_gradient():
    gradient = jax.grad(lambda x: max_pool(x, 3, 3).sum())(jnp.ones((1, 3, 3, 1)))
    np.testing.assert_array_equal(gradient[0, :, :, 0], np.eye(3)[:1].T * np.eye(3)[:1])


def test_maxima_pass_on_what_is_not_a_number():
    x = jnp.zeros((1, 4, 4, 1)).at[0, 1, 1, 0].set(jnp.nan)
    np.testing.assert_array_equal(np.isnan(max_pool(x, 2, 2)[0, :, :, 0]), [[True, False], [False, False]])


@pytest.mark.parametrize("pool", [max_pool, average_pool])
def test_derivatives_of_both_orders_under_jit_vmap_and_scan(pool, key):
    """Pooling is linear near any x, so its derivatives of both orders are known from its values."""
    x, direction = jax.random.normal(key, (2, 3, 1, 7, 7, 2))

    def layer(x, _):
        return jnp.pad(pool(x, 3, 2, 1, True), ((0, 0), (0, 3), (0, 3), (0, 0))), None

    def scanned(x):
        return jax.lax.scan(layer, x, length=2)[0]

    def loss(x):
        return 0.5 * jnp.square(scanned(x)).sum()

    def product(x, direction):
        return jax.jvp(jax.grad(loss), (x,), (direction,))[1]

    @jax.jit
    @jax.vmap
    def derivatives(x, direction):
        moved = jax.jvp(scanned, (x,), (direction,))[1]
        return *jax.value_and_grad(loss)(x), product(x, x), product(x, direction), moved

    value, gradient, along_x, along, moved = derivatives(x, direction)
    np.testing.assert_allclose((gradient * x).sum((1, 2, 3, 4)), 2 * value, rtol=1e-4)
    # Near x pooling is x -> A x, so the Hessian is A^T A: times x it is the gradient.
    np.testing.assert_allclose(along_x, gradient, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(
        (along * direction).sum((1, 2, 3, 4)), jnp.square(moved).sum((1, 2, 3, 4)), rtol=1e-4
    )


def test_bfloat16_sums_are_exact():
    x = jnp.full((1, 32, 32, 1), 1.0078125, jnp.bfloat16)  # 1,024 of them do not sum up in bfloat16
    pooled = average_pool(x, 32, 1)
    assert pooled.dtype == max_pool(x, 3, 2).dtype == jnp.bfloat16
    assert pooled.item() == 1.0078125


def test_an_image_too_small_is_said_so():
    with pytest.raises(UserError, match="2 pixels is too small for pooling 3 by 3"):
        max_pool(jnp.zeros((1, 2, 2, 1)), 3, 2)


def test_adaptive_windows_are_pytorchs(key):
    x = jax.random.normal(key, (2, 14, 3, 2))
    pooled = jax.jit(adaptive_average_pool, static_argnums=1)(x, 4)
    rows, columns = [(0, 4), (3, 7), (7, 11), (10, 14)], [(0, 1), (0, 2), (1, 3), (2, 3)]
    for i, (top, bottom) in enumerate(rows):
        for j, (left, right) in enumerate(columns):
            expected = x[:, top:bottom, left:right].mean((1, 2))
            np.testing.assert_allclose(pooled[:, i, j], expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(adaptive_average_pool(x[:, :3], 3), x[:, :3])
