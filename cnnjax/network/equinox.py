"""Networks of Equinox: modules for one sample, which are mapped over the batch.

The axis of the samples is called "batch", for `equinox.nn.BatchNorm(axis_name="batch", ...)`. A network with
state is the pair that `equinox.nn.make_with_state` gives.
"""

import inspect
from typing import Any

import jax

from cnnjax.network.base import Network, at, nested, path_names

AXIS = "batch"


def network(model: Any, state: Any = None) -> Network:
    """An Equinox module, and its state if it has one."""
    import equinox  # pyright: ignore[reportMissingImports]

    arrays, rest = equinox.partition(model, equinox.is_inexact_array)
    leaves, structure = jax.tree.flatten(arrays)
    paths = [path_names(path) for path, _ in jax.tree_util.tree_flatten_with_path(arrays)[0]]
    states, of_state = jax.tree.flatten(state)

    own = {"params": nested(dict(zip(paths, leaves, strict=True)))}
    if state is not None:
        own["state"] = {f"{number:04d}": leaf for number, leaf in enumerate(states)}

    def apply(variables, inputs, *, train, key=None, extra=()):
        params = jax.tree.unflatten(structure, [at(variables["params"], path) for path in paths])
        module = equinox.combine(params, rest)
        module = module if train else equinox.nn.inference_mode(module)
        random = "key" in inspect.signature(module.__call__).parameters
        samples = len(jax.tree.leaves(inputs)[0])
        keys = None if key is None or not random else jax.random.split(key, samples)

        def of_one(x: Any, key: Any, *state: Any) -> Any:
            return module(x, *state) if key is None else module(x, *state, key=key)

        if state is None:
            return jax.vmap(of_one, (0, 0), axis_name=AXIS)(inputs, keys), {}
        before = jax.tree.unflatten(of_state, jax.tree.leaves(variables["state"]))
        mapped = jax.vmap(of_one, (0, 0, None), out_axes=(0, None), axis_name=AXIS)
        outputs, after = mapped(inputs, keys, before)
        changed = {name: leaf for name, leaf in zip(variables["state"], jax.tree.leaves(after), strict=True)}
        return outputs, {"state": changed} if train else {}

    return Network(model if state is None else (model, state), lambda key, inputs: own, apply, own)
