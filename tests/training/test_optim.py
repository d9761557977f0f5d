import jax
import jax.numpy as jnp
import numpy as np

from cnnjax.config import Config
from cnnjax.models import build, stack, unstack
from cnnjax.training.optim import learning_rate, make_optimizer
from tests.counting import random_variables


def rates(config, steps):
    return [float(learning_rate(config)(jnp.int32(step))) for step in steps]


def test_piecewise_is_the_papers():
    config = Config()
    np.testing.assert_allclose(
        rates(config, [0, 31_999, 32_000, 47_999, 48_000, 63_999]),
        [0.1, 0.1, 0.01, 0.01, 0.001, 0.001],
        rtol=1e-6,
    )
    np.testing.assert_allclose(rates(Config(rate_drop=0.2), [32_000, 48_000]), [0.02, 0.004], rtol=1e-6)
    np.testing.assert_allclose(rates(Config(warmup_steps=400), [0, 399, 400]), [0.01, 0.01, 0.1], rtol=1e-6)


def test_cosine_rises_then_falls_to_nothing():
    config = Config(schedule="cosine", steps=110, warmup_steps=10, learning_rate=1.0)
    expected = [1 / 11, 10 / 11, 1.0, 0.5, 0.5 * (1 + np.cos(np.pi * 0.99))]
    np.testing.assert_allclose(rates(config, [0, 9, 10, 60, 109]), expected, rtol=1e-4)


def test_constant():
    config = Config(schedule="constant", warmup_steps=1, learning_rate=0.2)
    np.testing.assert_allclose(rates(config, [0, 1, 10**6]), [0.1, 0.2, 0.2], rtol=1e-6)


def test_what_decays():
    params = {
        "conv": {"kernel": jnp.ones((3, 3, 2, 2))},
        "bn": {"scale": jnp.ones(2)},
        "classifier": {"kernel": jnp.ones((2, 5))},
    }
    zeros = jax.tree.map(jnp.zeros_like, params)
    choices = {"convolutions": {"conv"}, "kernels": {"conv", "classifier"}, "all": set(params)}
    for decay, decayed in choices.items():
        optimizer = make_optimizer(Config(decay=decay, weight_decay=0.5, learning_rate=0.1))
        updates, _ = optimizer.update(zeros, optimizer.init(params), params)
        for name, update in updates.items():
            (update,) = update.values()
            np.testing.assert_allclose(update, -0.05 if name in decayed else 0.0, rtol=1e-6)


def test_nesterov_looks_ahead():
    """Two steps of its recursion by hand: v = momentum v + g, w -= rate (momentum v + g)."""
    optimizer = make_optimizer(Config(nesterov=True, momentum=0.5, weight_decay=0.0, learning_rate=0.1))
    state = optimizer.init(jnp.zeros(1))
    for gradient, expected in ((1.0, -0.1 * 1.5), (2.0, -0.1 * (0.5 * 2.5 + 2.0))):
        update, state = optimizer.update(jnp.array([gradient]), state, jnp.zeros(1))
        np.testing.assert_allclose(update, expected, rtol=1e-6)


def test_decay_is_the_same_for_stacked_variables():
    """Stacked over depth a kernel has one more axis; what decays must not change with the layout."""
    model = build("resnet8", width=2, stage_sizes=(1, 3))
    params = random_variables(model, (8, 8, 3))["params"]

    def update(params):
        optimizer = make_optimizer(Config(weight_decay=0.5, learning_rate=0.1))
        zeros = jax.tree.map(jnp.zeros_like, params)
        return optimizer.update(zeros, optimizer.init(params), params)[0]

    by_block = update(params)
    assert np.abs(by_block["stage2_block03"]["conv1"]["kernel"]).max() > 0
    jax.tree.map(np.testing.assert_array_equal, unstack(update(stack(params))), by_block)


def test_adam_has_coupled_decay():
    """Its first steps by hand: the decay is part of the gradient whose moments are averaged."""
    rate, decay, w = 0.1, 0.5, np.array([2.0, -1.0, 0.5])
    gradients = [np.array([1.0, 0.5, -2.0]), np.array([-3.0, 0.25, 1.0])]
    config = Config(
        optimizer="adam", schedule="constant", learning_rate=rate, weight_decay=decay, decay="all"
    )
    optimizer = make_optimizer(config)
    params = jnp.asarray(w)
    state = optimizer.init(params)
    mean = square = np.zeros(3)
    for step, gradient in enumerate(gradients, start=1):
        updates, state = optimizer.update(jnp.asarray(gradient), state, params)
        params = params + updates
        gradient = gradient + decay * w
        mean = 0.9 * mean + 0.1 * gradient
        square = 0.999 * square + 0.001 * gradient**2
        w = w - rate * (mean / (1 - 0.9**step)) / (np.sqrt(square / (1 - 0.999**step)) + 1e-8)
        np.testing.assert_allclose(params, w, rtol=1e-5)
