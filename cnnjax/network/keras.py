"""Models of Keras 3 on its JAX backend."""

from typing import Any

import jax
import jax.numpy as jnp

from cnnjax.errors import UserError
from cnnjax.network.base import Network, at, nested, short_repr


def network(model: Any) -> Network:
    """A Keras model or layer that has been built, with its weights as they are.

    Raises:
        UserError: Keras runs on another backend, or the model has not been built.
    """
    import keras  # pyright: ignore[reportMissingImports]

    if keras.backend.backend() != "jax":
        raise UserError(
            f"model={short_repr(model)}: Keras runs on {keras.backend.backend()}; set KERAS_BACKEND=jax"
        )
    if not model.built:
        raise UserError(f"model={short_repr(model)} has no weights yet: call model.build(input_shape)")
    params, others = model.trainable_variables, model.non_trainable_variables
    seeds = [variable.dtype == "uint32" for variable in others]  # of Keras's random number generators
    paths, state_paths = ([tuple(variable.path.split("/")) for variable in each] for each in (params, others))

    own = {
        "params": nested({path: v.value for path, v in zip(paths, params, strict=True)}),
        "state": nested({path: v.value for path, v in zip(state_paths, others, strict=True)}),
    }

    def apply(variables, inputs, *, train, key=None, extra=()):
        values = [at(variables["params"], path) for path in paths]
        state = [at(variables["state"], path) for path in state_paths]
        if key is not None:  # its random streams begin anew, so that a step is a function of (seed, step)
            keys = jax.random.split(key, len(state))
            state = [
                jax.random.bits(one, jnp.shape(old), jnp.uint32) if seed else old
                for one, old, seed in zip(keys, state, seeds, strict=True)
            ]
        outputs, after = model.stateless_call(values, state, inputs, training=train)
        changed = nested(dict(zip(state_paths, after, strict=True)))
        return outputs, {"state": changed} if train else {}

    return Network(model, lambda key, inputs: own, apply, own)
