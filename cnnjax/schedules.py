"""Schedules of learning rates that optax does not have, in its form."""

from collections.abc import Callable
from typing import Any


def inverse_decay(init_value: float, decay_rate: float, power: float = 1.0) -> Callable[[Any], Any]:
    """Make the function init_value * (1 + decay_rate * step) ** -power: Caffe's policy "inv".

    Args:
        init_value: the rate at step 0.
        decay_rate: Caffe's gamma.
        power: of the decay.
    """
    return lambda step: init_value * (1 + decay_rate * step) ** -power
