import jax
import numpy as np
import pytest

from cnnjax.errors import UserError
from cnnjax.ops.init import (
    caffe_xavier,
    delta_orthogonal,
    dirac,
    glorot_uniform,
    he_normal,
    he_normal_fan_in,
    lecun_1998,
    truncated_normal,
    uniform,
)


def test_drawn_flat_or_in_shape_the_numbers_are_the_same(key):
    shape = (3, 3, 8, 16)
    reference = np.sqrt(2 / (9 * 16)) * np.asarray(jax.random.normal(key, shape))
    np.testing.assert_allclose(he_normal(key, shape), reference, rtol=1e-6)
    np.testing.assert_allclose(he_normal_fan_in(key, shape), reference * np.sqrt(16 / 8), rtol=1e-6)


def test_glorot_is_uniform_between_its_limits(key):
    kernel = np.asarray(glorot_uniform(key, (3, 3, 16, 32)))
    limit = np.sqrt(6 / (9 * 48))
    assert 0.999 * limit < kernel.max() <= limit
    assert -limit <= kernel.min() < -0.999 * limit
    assert abs(kernel.std() / (limit / np.sqrt(3)) - 1) < 4 / np.sqrt(kernel.size)


@pytest.mark.parametrize(
    ("init", "bound"),
    [(lecun_1998, 2.4 / 144), (caffe_xavier, np.sqrt(3 / 144)), (uniform(0.5), 0.5)],
)
def test_uniform_kernels_reach_their_bounds_and_no_further(key, init, bound):
    kernel = np.asarray(init(key, (3, 3, 16, 32)))
    assert 0.999 * bound < kernel.max() <= bound
    assert -bound <= kernel.min() < -0.999 * bound


def test_a_truncated_normal_has_nothing_beyond_two_deviations(key):
    kernel = np.asarray(truncated_normal(0.1)(key, (3, 3, 16, 32)))
    assert 0.19 < kernel.max() <= 0.2
    assert kernel.std() == pytest.approx(0.1 * 0.8796, rel=0.05)  # of what is left


def test_a_delta_orthogonal_convolution_keeps_the_norm_at_every_pixel(key):
    kernel = delta_orthogonal(key, (3, 3, 5, 8))
    images = jax.random.normal(key, (2, 6, 6, 5))
    y = jax.lax.conv(images.transpose(0, 3, 1, 2), kernel.transpose(3, 2, 0, 1), (1, 1), "SAME")
    np.testing.assert_allclose((y**2).sum(1), (images**2).sum(-1), rtol=1e-5)


def test_a_dirac_kernel_passes_channels_on(key):
    kernel = np.asarray(dirac(key, (3, 3, 2, 4)))
    np.testing.assert_array_equal(kernel[1, 1], np.eye(2, 4))
    assert kernel.sum() == 2


@pytest.mark.parametrize(
    ("init", "shape", "message"),
    [(delta_orthogonal, (1, 1, 8, 4), "not 8 to 4"), (dirac, (2, 2, 4, 4), "2 by 2 has no centre")],
)
def test_impossible_kernels_say_why(key, init, shape, message):
    with pytest.raises(UserError, match=message):
        init(key, shape)
