"""Models of Keras 3 on its JAX backend."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from cnnjax.errors import UserError
from cnnjax.network.base import Network, at, nested, short_repr

Names = tuple[str, ...]


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
    names = _paths([variable.path for variable in (*params, *others)], _kinds(keras.layers.Layer))
    paths, state_paths = names[: len(params)], names[len(params) :]

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


def _paths(names: Sequence[str], kinds: set[str]) -> list[Names]:
    """Paths of variables, in which the names that Keras made are counted within the model.

    It counts them over the whole process, such as dense_7/kernel, so that the same model made again would
    have other variables.
    """

    def split(name: str) -> tuple[str, int]:
        base, _, number = name.rpartition("_")
        is_numbered = number.isdecimal() and base.replace("_", "") in kinds
        return (base, int(number)) if is_numbered else (name, 0)

    paths = [tuple(name.split("/")) for name in names]
    numbers: dict[tuple[Names, str], set[int]] = defaultdict(set)
    for path in paths:
        for depth, name in enumerate(path):
            base, number = split(name)
            numbers[path[:depth], base].add(number)

    def count(path: Names, depth: int) -> str:
        base, number = split(path[depth])
        before = sum(other < number for other in numbers[path[:depth], base])
        return f"{base}_{before}" if before else base

    return [tuple(count(path, depth) for depth in range(len(path))) for path in paths]


def _kinds(layer: type) -> set[str]:
    """The classes of layers, as Keras names their instances, but without underscores."""
    return {"seedgenerator", layer.__name__.lower()}.union(*map(_kinds, layer.__subclasses__()))
