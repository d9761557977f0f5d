"""Lookahead against the paper's loop, written with numpy."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from cnnjax import Config
from cnnjax.errors import UserError
from cnnjax.lookahead import lookahead
from cnnjax.optimizers import make_optimizer

STEPS, RATE = 13, 0.3


def by_the_papers_loop(w, gradients, every):
    average = w.copy()
    for step, gradient in enumerate(gradients, start=1):
        w = w - RATE * gradient
        if step % every == 0:
            kept = 0.95**5 * (step / len(gradients)) ** 3
            average = kept * average + (1 - kept) * w
            w = average.copy()
    return average


def trained(optimizer, w, gradients):
    params = {"kernel": jnp.asarray(w)}
    state = optimizer.init(params)
    for gradient in gradients:
        updates, state = jax.jit(optimizer.update)({"kernel": jnp.asarray(gradient)}, state, params)
        params = optax.apply_updates(params, updates)
    return params["kernel"]


@pytest.mark.parametrize("every", [1, 5])
def test_it_is_the_papers_loop(every):
    rng = np.random.default_rng(0)
    w, gradients = rng.normal(size=3), rng.normal(size=(STEPS, 3))
    with jax.enable_x64(True):
        found = trained(optax.chain(optax.sgd(RATE), lookahead(every, STEPS)), w, gradients)
        np.testing.assert_allclose(found, by_the_papers_loop(w, gradients, every), rtol=1e-12)


def test_a_config_has_it_by_a_field():
    rng = np.random.default_rng(1)
    w, gradients = rng.normal(size=3).astype(np.float32), rng.normal(size=(STEPS, 3)).astype(np.float32)
    config = Config(
        lookahead=5, steps=STEPS, learning_rate=RATE, schedule="constant", momentum=0.0, weight_decay=0.0
    )
    found = trained(make_optimizer(config), w, gradients)
    np.testing.assert_allclose(found, by_the_papers_loop(w, gradients, 5), rtol=1e-4)
    with pytest.raises(UserError, match="lookahead"):
        Config(lookahead=-1)
