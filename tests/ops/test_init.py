import jax
import numpy as np

from cnnjax.ops.init import he_normal, he_normal_fan_in


def test_drawn_flat_or_in_shape_the_numbers_are_the_same(key):
    shape = (3, 3, 8, 16)
    reference = np.sqrt(2 / (9 * 16)) * np.asarray(jax.random.normal(key, shape))
    np.testing.assert_allclose(he_normal(key, shape), reference, rtol=1e-6)
    np.testing.assert_allclose(he_normal_fan_in(key, shape), reference * np.sqrt(16 / 8), rtol=1e-6)
