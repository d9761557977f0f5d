"""The speed record's network: its count, its whitening against the definition, its initial kernels."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

import cnnjax
from cnnjax.models.airbench import identity_first, whitening
from cnnjax.recipes import Objects, resolve
from tests.counting import trace


def test_its_parameters_are_counted_layer_by_layer():
    whiten, linear = 2 * 2 * 3 * 24 + 24, 256 * 10
    convolutions = 9 * (24 * 64 + 64 * 64 + 64 * 256 + 3 * 256 * 256)
    norms = 2 * (2 * 64 + 4 * 256)
    sizes = jax.tree.map(lambda leaf: leaf.size, trace(cnnjax.build("airbench"), (32, 32, 3))["params"])
    assert sum(jax.tree.leaves(sizes)) == whiten + convolutions + norms + linear == 1_972_792


@pytest.mark.parametrize("channels", [1, 3])
def test_whitened_patches_have_unit_variance_and_no_correlation(channels):
    rng = np.random.default_rng(0)
    images = rng.normal(size=(1_200, 6, 7, channels)).cumsum(1).cumsum(2)  # more than a chunk, and smooth
    kernel = whitening(images, 0.0)
    patch = 4 * channels
    assert kernel.shape == (2, 2, channels, 2 * patch)
    outputs = jax.lax.conv_general_dilated(
        jnp.asarray(images, jnp.float32), kernel, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    flat = np.asarray(outputs, np.float64).reshape(-1, 2 * patch)
    first, second = flat[:, :patch], flat[:, patch:]
    np.testing.assert_allclose(first.T @ first / len(first), np.eye(patch), atol=2e-3)
    np.testing.assert_array_equal(first, -second)


def test_the_whitening_epsilon_damps_what_hardly_varies():
    images = np.ones((3, 4, 4, 1))
    kernel = whitening(images, 0.25)[..., 0].ravel()
    np.testing.assert_allclose(np.abs(kernel), 0.5 / np.sqrt(4 + 0.25), rtol=1e-6)  # 4: of (1, 1, 1, 1) / 2


def test_first_outputs_are_copies_of_the_inputs():
    kernel = identity_first(jax.random.key(0), (3, 3, 4, 6))
    x = jax.random.normal(jax.random.key(1), (2, 5, 5, 4))
    y = jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
    np.testing.assert_array_equal(y[..., :4], x)
    assert float(jnp.abs(kernel[..., 4:]).max()) <= 1 / 6
    assert float(kernel[..., 4:].std()) > 0.05


def test_a_task_starts_from_the_whitening_of_its_images():
    config = cnnjax.Config(
        model="airbench", model_options={"width": 2}, data="fashion_mini", normalize="channel"
    )
    task = resolve(config)
    images = task.normalize(jnp.asarray(task.data.train_images[:5_000]))
    found = task.init(jax.random.key(0), images[:1])["params"]["whiten"]["kernel"]
    np.testing.assert_array_equal(found, whitening(np.asarray(images), 5e-4))
    drawn = resolve(cnnjax.Config(**{**vars(config), "model_options": {"width": 2, "whitened": False}}))
    other = drawn.init(jax.random.key(0), images[:1])["params"]["whiten"]["kernel"]
    own = drawn.network.init(jax.random.key(0), images[:1])["params"]["whiten"]["kernel"]
    np.testing.assert_array_equal(other, own)


def test_a_users_network_may_start_from_its_data_too():
    computed = []

    class Centred(nn.Module):
        def initial_from(self, inputs):
            computed.append(len(inputs))
            return {"params/mean": inputs.mean(0)}

        @nn.compact
        def __call__(self, x):
            return nn.Dense(2)(x - self.param("mean", nn.initializers.zeros, x.shape[1:]))

    x, y = np.random.default_rng(0).normal(3.0, 1.0, (40, 5)).astype(np.float32), np.arange(40) % 2
    objects = {"model": Centred(), "data": (x[:30], y[:30], x[30:], y[30:])}
    task = resolve(cnnjax.Config(), Objects(**objects))
    weights = task.network.init(jax.random.key(0), x[:1])
    cnnjax.evaluate(cnnjax.Config(batch_size=10), weights, **objects)
    assert not computed  # only what begins starts from the data
    jax.eval_shape(task.init, jax.random.key(0), x[:1])
    found = task.init(jax.random.key(0), x[:1])["params"]
    assert computed == [30]
    np.testing.assert_allclose(found["mean"], x[:30].mean(0), rtol=1e-6)
    assert float(jnp.abs(found["Dense_0"]["kernel"]).max()) > 0
