"""Models of Keras 3 on its JAX backend."""

from typing import Any

import jax
import jax.numpy as jnp
import keras  # pyright: ignore[reportMissingImports]

from cnnjax.errors import UserError
from cnnjax.network.base import Network, Variables, at, nested, short_repr


def network(model: Any) -> Network:
    """A Keras model or layer that has been built, with its weights as they are.

    Raises:
        UserError: Keras runs on another backend, or the model has not been built.
    """
    if keras.backend.backend() != "jax":
        raise UserError(
            f"model={short_repr(model)}: Keras runs on {keras.backend.backend()}; set KERAS_BACKEND=jax"
        )
    if not model.built:
        raise UserError(f"model={short_repr(model)} has no weights yet: call model.build(input_shape)")
    params, others = model.trainable_variables, model.non_trainable_variables
    seeds = [variable.dtype == "uint32" for variable in others]  # of Keras's random number generators
    paths, state_paths = ([tuple(variable.path.split("/")) for variable in each] for each in (params, others))

    def init(key: jax.Array, inputs: Any) -> Variables:
        values = (
            {p: v.value for p, v in zip(*of, strict=True)} for of in ((paths, params), (state_paths, others))
        )
        of_params, of_others = map(nested, values)
        return {"params": of_params, "state": of_others}

    def apply(variables, inputs, *, train, key=None, extra=()):
        values = [at(variables["params"], path) for path in paths]
        state = [at(variables["state"], path) for path in state_paths]
        if key is not None:  # its random streams begin anew, so that a step is a function of (seed, step)
            drawn = [
                jax.random.bits(jax.random.fold_in(key, n), x.shape, jnp.uint32) for n, x in enumerate(state)
            ]
            state = [new if seed else old for new, seed, old in zip(drawn, seeds, state, strict=True)]
        outputs, after = model.stateless_call(values, state, inputs, training=train)
        changed = nested(dict(zip(state_paths, after, strict=True)))
        return outputs, {"state": changed} if train else {}

    return Network(model, init, apply)
