"""SGD and Adam with coupled weight decay, and the learning rate as a function of the step."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from cnnjax.config import Config


def learning_rate(config: Config, peak: Any = None) -> Callable[[Any], jax.Array]:
    """The schedule: step, counted from 0, to learning rate; `peak` may take the place of the config's."""
    peak = config.learning_rate if peak is None else peak
    warmup = config.warmup_steps

    def piecewise(step):
        drops = jnp.sum(jnp.asarray(step) >= jnp.array(config.boundaries, jnp.int32))
        return peak * jnp.where(step < warmup, 0.1, 1.0) * config.rate_drop**drops

    def cosine(step):
        progress = (step - warmup) / max(1, config.steps - warmup)
        return _rise(step) * 0.5 * (1 + jnp.cos(jnp.pi * jnp.clip(progress, 0, 1)))

    def constant(step):
        return _rise(step)

    def _rise(step):
        return peak * jnp.minimum(1.0, (step + 1) / (warmup + 1))

    return {"piecewise": piecewise, "cosine": cosine, "constant": constant}[config.schedule]


def make_optimizer(
    config: Config, peak: Any = None, weight_decay: Any = None
) -> optax.GradientTransformation:
    """The config's optimizer; arrays may take the place of its learning rate and weight decay.

    First g += weight_decay * w on the decayed parameters, whatever comes after.
    "sgd": v = momentum * v + g; w -= learning_rate(step) * v, with `nesterov` times momentum * v + g instead.
    "adam" is Kingma and Ba's (arXiv 1412.6980), so that the decay is L2 regularisation, not the decoupled
    form of AdamW.
    """

    chosen = {
        # Convolutions alone have kernels [k, k, c_in, c_out], or one axis more when stacked over depth.
        "convolutions": lambda path, w: w.ndim >= 4,
        "kernels": lambda path, w: path[-1].key == "kernel",
        "all": lambda path, w: True,
    }[config.decay]

    def decayed(params):
        return jax.tree.map_with_path(chosen, params)

    rate = learning_rate(config, peak)
    decay = config.weight_decay if weight_decay is None else weight_decay
    optimizers = {
        "sgd": lambda: optax.sgd(rate, config.momentum, config.nesterov),
        "adam": lambda: optax.adam(rate),
    }
    return optax.chain(optax.add_decayed_weights(decay, decayed), optimizers[config.optimizer]())
