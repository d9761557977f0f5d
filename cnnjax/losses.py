"""Losses and metrics by name: functions of outputs [batch, class] and labels [batch] to numbers [batch]."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax

from cnnjax.config import Config
from cnnjax.models.lenet5 import map_loss

PerExample = Callable[[Any, Any], jax.Array]
cross_entropy = optax.softmax_cross_entropy_with_integer_labels


def make_loss(config: Config) -> PerExample:
    """The config's loss, in nats."""
    return {"cross_entropy": cross_entropy, "map": partial(map_loss, j=config.map_constant)}[config.loss]


def error(outputs: jax.Array, labels: jax.Array) -> jax.Array:
    """Whether the largest output is that of a wrong class."""
    return outputs.argmax(-1) != labels


def top5_error(outputs: jax.Array, labels: jax.Array) -> jax.Array:
    """Whether five classes or more have a larger output than the right one."""
    right = jnp.take_along_axis(outputs, labels[:, None], -1)
    return jnp.sum(outputs > right, -1) >= 5


METRICS: Mapping[str, PerExample] = {"error": error, "top5_error": top5_error}
