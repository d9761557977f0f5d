import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn

from cnnjax.config import Config
from cnnjax.models.lenet5 import map_loss
from cnnjax.training.losses import cross_entropy, make_loss
from cnnjax.training.step import init_state, make_eval_step, make_train_step


class Pixels(nn.Module):
    """The logits are the pixels times one weight."""

    @nn.compact
    def __call__(self, x, train):
        return x.reshape(len(x), -1) * self.param("weight", nn.initializers.ones, ())


def test_the_configs_loss_is_what_training_and_evaluation_use():
    logits, labels = jnp.array([[1.0, -3, 2], [-4, 0, -1]]), jnp.array([0, 2])
    images = logits.reshape(2, 1, 3, 1)
    model, optimizer = Pixels(), optax.sgd(0.1)
    state = init_state(model, optimizer, jax.random.key(0), images.shape[1:])
    for config, expected in (
        (Config(), cross_entropy(logits, labels)),
        (Config(loss="map", map_constant=2.0), map_loss(logits, labels, 2.0)),
    ):
        loss = make_loss(config)
        train_step = make_train_step(model, optimizer, lambda _: 0.1, lambda _, x: x, lambda x: x, loss)
        new, metrics, _ = jax.jit(train_step)(state, images, labels, jax.random.key(0))
        np.testing.assert_allclose(metrics["train_loss"], expected.mean(), rtol=1e-6)
        ahead, behind = (loss((1 + step) * logits, labels).mean() for step in (1e-2, -1e-2))
        np.testing.assert_allclose(new.params["weight"], 1 - 0.1 * (ahead - behind) / 0.02, rtol=1e-4)
        summed, _ = jax.jit(make_eval_step(model, lambda x: x, loss))(
            state.variables, images, labels, jnp.array([True, False])
        )
        np.testing.assert_allclose(summed, expected[0], rtol=1e-6)
