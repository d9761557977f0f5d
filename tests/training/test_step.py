import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn

from cnnjax.training.step import State, init_state, make_train_step
from tests.tasks import make_task


class TwoHeads(nn.Module):
    """A classifier and an auxiliary one, both linear in the pixels."""

    auxiliary_weight: float = 0.3

    @nn.compact
    def __call__(self, x, train):
        x = x.reshape(len(x), -1)
        auxiliary = nn.Dense(3, name="auxiliary_head")(x)
        if train and not self.is_initializing():
            self.sow("auxiliary", "logits", auxiliary)
        return nn.Dense(3, name="classifier")(x)


def test_auxiliary_losses_are_weighed_and_added():
    """With SGD of rate 1 the update is minus the gradient, softmax minus one-hot times the pixels."""
    images = np.random.default_rng(0).integers(0, 256, (5, 2, 2, 1), dtype=np.uint8)
    labels = np.array([0, 1, 2, 1, 0])
    optimizer = optax.sgd(1.0)
    task = make_task(TwoHeads(), optimizer, normalize=lambda x: x.astype(jnp.float32) / 255)
    state = init_state(task, optimizer, jax.random.key(0), jax.ShapeDtypeStruct((1, 2, 2, 1), jnp.float32))
    step = make_train_step(task, optimizer, schedule=lambda step: jnp.float32(1))
    new, metrics, _ = jax.jit(step)(state, images, labels, jax.random.key(0))

    pixels = images.reshape(5, 4) / 255
    for head, weight in (("classifier", 1.0), ("auxiliary_head", 0.3)):
        before, after = state.params[head], new.params[head]
        probabilities = jax.nn.softmax(pixels @ before["kernel"] + before["bias"])
        gradient = weight * pixels.T @ (probabilities - np.eye(3)[labels]) / 5
        np.testing.assert_allclose(before["kernel"] - after["kernel"], gradient, rtol=1e-4, atol=1e-6)
        if head == "classifier":
            loss = -np.log(probabilities[np.arange(5), labels]).mean()
            np.testing.assert_allclose(metrics["train_loss"], loss, rtol=1e-5)


def test_without_a_probe_the_program_is_the_plain_one():
    """Not an operation more: the text that the compiler gets is the same."""
    optimizer = optax.sgd(0.1, momentum=0.9)

    def train_step(state, images, labels, key):
        augment_key, dropout_key = jax.random.split(jax.random.fold_in(key, state.step))
        x = images + jax.random.normal(augment_key, images.shape)

        def loss_of(params):
            logits, new = TwoHeads().apply(
                {"params": params}, x, train=True, mutable=["auxiliary"], rngs={"dropout": dropout_key}
            )
            loss = optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()
            (auxiliary,) = new["auxiliary"]["logits"]
            side = optax.softmax_cross_entropy_with_integer_labels(auxiliary, labels).mean()
            return loss + 0.3 * side, (loss, logits)

        (_, (loss, logits)), gradients = jax.value_and_grad(loss_of, has_aux=True)(state.params)
        updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
        error = jnp.mean(logits.argmax(-1) != labels)
        metrics = {"train_loss": loss, "train_error": error, "learning_rate": jnp.float32(1)}
        params = optax.apply_updates(state.params, updates)
        return State(state.step + 1, params, {}, opt_state), metrics, {}

    task = make_task(
        TwoHeads(), optimizer, augment=lambda moment, x, y: (x + jax.random.normal(moment.key, x.shape), y)
    )
    ours = make_train_step(task, optimizer, schedule=lambda step: jnp.float32(1))
    state = init_state(task, optimizer, jax.random.key(0), jax.ShapeDtypeStruct((1, 2, 2, 1), jnp.float32))
    batch = jnp.zeros((5, 2, 2, 1)), jnp.zeros(5, int), jax.random.key(0)
    assert jax.jit(ours).lower(state, *batch).as_text() == jax.jit(train_step).lower(state, *batch).as_text()
