"""Losses and metrics by name: functions of outputs [batch, class] and labels to numbers [batch].

Labels are those of the data, whole numbers [batch]. The cross-entropy also takes probabilities
[batch, class], into which an augmentation such as mixup turns them.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax

from cnnjax.config import Config
from cnnjax.models.lenet5 import map_loss

PerExample = Callable[[Any, Any], jax.Array]


def cross_entropy(outputs: jax.Array, labels: jax.Array, smoothing: float = 0.0) -> jax.Array:
    """That of the softmax of the outputs with the labels, or with probabilities [batch, class], in nats.

    With `smoothing` all classes share that part of the probability (Szegedy et al. 2015, section 7).
    """
    if smoothing:
        whole = labels if labels.ndim == outputs.ndim else jax.nn.one_hot(labels, outputs.shape[-1])
        labels = optax.smooth_labels(whole, smoothing)
    if labels.ndim == outputs.ndim:
        return optax.softmax_cross_entropy(outputs, labels)
    return optax.softmax_cross_entropy_with_integer_labels(outputs, labels)


def make_loss(config: Config) -> PerExample:
    """The config's loss, in nats, as it is trained with; `test_loss` is without label smoothing."""
    smoothed = partial(cross_entropy, smoothing=config.label_smoothing)
    return {
        "cross_entropy": smoothed if config.label_smoothing else cross_entropy,
        "map": partial(map_loss, j=config.map_constant),
    }[config.loss]


def error(outputs: jax.Array, labels: jax.Array) -> jax.Array:
    """Whether the largest output is that of a wrong class."""
    return outputs.argmax(-1) != labels


def top5_error(outputs: jax.Array, labels: jax.Array) -> jax.Array:
    """Whether five classes or more have a larger output than the right one."""
    right = jnp.take_along_axis(outputs, labels[:, None], -1)
    return jnp.sum(outputs > right, -1) >= 5


METRICS: Mapping[str, PerExample] = {"error": error, "top5_error": top5_error}
