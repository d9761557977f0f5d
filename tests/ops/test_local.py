import jax
import jax.numpy as jnp
import numpy as np

from cnnjax.ops.local import LocalConv


def test_with_one_kernel_everywhere_it_is_a_convolution(key):
    x = jax.random.normal(key, (2, 5, 4, 3))
    layer = LocalConv(2, 3, 1, jax.nn.initializers.normal())
    shapes = jax.tree.map(jnp.shape, jax.eval_shape(layer.init, key, x))["params"]
    assert shapes == {"kernel": (5, 4, 27, 2), "bias": (5, 4, 2)}
    kernel = jax.random.normal(key, (3, 3, 3, 2))
    params = {"kernel": jnp.tile(kernel.reshape(27, 2), (5, 4, 1, 1)), "bias": jnp.zeros((5, 4, 2))}
    expected = jax.lax.conv_general_dilated(
        x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    np.testing.assert_allclose(jax.jit(layer.apply)({"params": params}, x), expected, rtol=1e-4, atol=1e-5)


def test_a_place_has_its_own_weights(key):
    """Another kernel and bias in one place change the result there and nowhere else."""
    x = jax.random.normal(key, (1, 4, 4, 2))
    layer = LocalConv(3, 3, 0, jax.nn.initializers.normal())
    variables = jax.jit(layer.init)(key, x)
    apply = jax.jit(layer.apply)
    other = jax.tree.map(lambda leaf: leaf.at[1, 0].add(1), variables)
    changed = np.any(apply(variables, x) != apply(other, x), axis=(0, 3))
    np.testing.assert_array_equal(changed, [[False, False], [True, False]])
