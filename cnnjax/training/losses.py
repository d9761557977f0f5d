"""The losses by name: functions of logits [batch, class] and labels [batch] to losses [batch], in nats."""

from collections.abc import Callable
from functools import partial

import jax
import optax

from cnnjax.config import Config
from cnnjax.models.lenet5 import map_loss

Loss = Callable[[jax.Array, jax.Array], jax.Array]
cross_entropy = optax.softmax_cross_entropy_with_integer_labels


def make_loss(config: Config) -> Loss:
    """The config's loss."""
    return {"cross_entropy": cross_entropy, "map": partial(map_loss, j=config.map_constant)}[config.loss]
