import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn

from cnnjax.config import Config
from cnnjax.losses import cross_entropy, make_loss
from cnnjax.models.lenet5 import map_loss
from cnnjax.recipes import resolve
from cnnjax.training.step import init_state, make_eval_step, make_train_step
from tests.tasks import make_task


class Pixels(nn.Module):
    """The logits are the pixels times one weight."""

    @nn.compact
    def __call__(self, x, train):
        return x.reshape(len(x), -1) * self.param("weight", nn.initializers.ones, ())


def test_smoothed_labels_share_a_part_of_the_probability_in_training_only():
    logits, labels = jnp.array([[1.0, -3, 2], [-4, 0, -1]]), jnp.array([0, 2])
    log_probabilities = np.log(np.exp(logits) / np.exp(logits).sum(-1, keepdims=True))
    expected = -0.7 * log_probabilities[[0, 1], labels] - 0.3 * log_probabilities.mean(-1)
    for given in (labels, jnp.eye(3)[labels]):
        np.testing.assert_allclose(cross_entropy(logits, given, 0.3), expected, rtol=1e-6)
    task = resolve(Config(model="lenet5_modern", data="synthetic", augment="none", label_smoothing=0.3))
    np.testing.assert_allclose(task.loss(logits, labels), expected, rtol=1e-6)
    counted, images = jnp.array([True, True]), logits.reshape(2, 1, 3, 1)
    task = make_task(Pixels(), optax.sgd(0.1), loss=task.loss, test_loss=task.test_loss)
    state = init_state(task, optax.sgd(0.1), jax.random.key(0), images)
    _, metrics, _ = make_train_step(task, optax.sgd(0.1), None)(state, images, labels, jax.random.key(0))
    np.testing.assert_allclose(metrics["train_loss"], expected.mean(), rtol=1e-6)
    sums = make_eval_step(task)(state.variables, images, labels, counted)
    np.testing.assert_allclose(sums["loss"], cross_entropy(logits, labels).sum(), rtol=1e-6)


def test_the_configs_loss_is_what_training_and_evaluation_use():
    logits, labels = jnp.array([[1.0, -3, 2], [-4, 0, -1]]), jnp.array([0, 2])
    images = logits.reshape(2, 1, 3, 1)
    model, optimizer = Pixels(), optax.sgd(0.1)
    state = init_state(make_task(model, optimizer), optimizer, jax.random.key(0), images)
    for config, expected in (
        (Config(), cross_entropy(logits, labels)),
        (Config(loss="map", map_constant=2.0), map_loss(logits, labels, 2.0)),
    ):
        loss = make_loss(config)
        task = make_task(model, optimizer, loss=loss)
        train_step = make_train_step(task, optimizer, None)
        new, metrics, _ = jax.jit(train_step)(state, images, labels, jax.random.key(0))
        np.testing.assert_allclose(metrics["train_loss"], expected.mean(), rtol=1e-6)
        ahead, behind = (loss((1 + step) * logits, labels).mean() for step in (1e-2, -1e-2))
        np.testing.assert_allclose(new.params["weight"], 1 - 0.1 * (ahead - behind) / 0.02, rtol=1e-4)
        counted = jnp.array([True, False])
        sums = jax.jit(make_eval_step(task))(state.variables, images, labels, counted)
        np.testing.assert_allclose(sums["loss"], expected[0], rtol=1e-6)
