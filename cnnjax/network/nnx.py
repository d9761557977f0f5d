"""Networks of Flax NNX."""

import inspect
from collections.abc import Callable
from typing import Any

import jax
from flax import nnx

from cnnjax.errors import UserError
from cnnjax.network.base import Network, Variables, at, mode, nested, short_repr


def network(model: Any) -> Network:
    """A module, or a function from random streams `rngs` to one, such as its class.

    Raises:
        UserError: the function returns something else.
    """
    make = _maker(model)
    kinds = (nnx.Param, nnx.RngState, ...)
    made = nnx.eval_shape(lambda: make(nnx.Rngs(0)))
    if not isinstance(made, nnx.Module):
        raise UserError(
            f"model={short_repr(model)} returns {short_repr(made)} for rngs, not a flax.nnx.Module"
        )
    graphs = {}
    for train in (False, True):
        (made.train if train else made.eval)()
        graphs[train] = nnx.split(made, *kinds)

    def as_dict(state: Any, like: Any) -> Any:
        """Nested dicts with strings for keys, of the paths that `like` has: what is sown is no state."""
        known = {path for path, _ in nnx.to_flat_state(like)}
        flat = {path: leaf.get_value() for path, leaf in nnx.to_flat_state(state) if path in known}
        return nested({tuple(map(str, path)): value for path, value in flat.items()})

    def as_state(tree: Any, like: Any) -> Any:
        return nnx.from_flat_state(
            [(path, leaf.replace(at(tree, tuple(map(str, path))))) for path, leaf in nnx.to_flat_state(like)]
        )

    def init(key: jax.Array, inputs: Any) -> Variables:
        _, params, _, state = nnx.split(make(nnx.Rngs(key)), *kinds)
        _, like, _, like_state = graphs[False]
        return {"params": as_dict(params, like), "state": as_dict(state, like_state)}

    def apply(variables, inputs, *, train, key=None, extra=()):
        graph, params, rngs, state = graphs[train]
        seeded = _seeded(rngs, jax.random.key(0) if key is None else key)
        parts = as_state(variables["params"], params), seeded, as_state(variables["state"], state)
        module = nnx.merge(graph, *parts)
        outputs = module(inputs, **mode(module.__call__, train))
        changed = nnx.split(module, *kinds)[3]
        return outputs, {"state": as_dict(changed, state)} if train else {}

    own = init(jax.random.key(0), None) if isinstance(model, nnx.Module) else None
    return Network(model, init, apply, own)


def _seeded(rngs: Any, key: jax.Array) -> Any:
    """NNX's random streams, begun anew from a step's key: so a step is a function of (seed, step)."""

    def value(number: int, leaf: Any) -> jax.Array:
        if isinstance(leaf, nnx.RngKey):
            return jax.random.fold_in(key, number)
        return jax.numpy.zeros(leaf.shape, leaf.dtype)

    return nnx.from_flat_state(
        [
            (path, leaf.replace(value(number, leaf)))
            for number, (path, leaf) in enumerate(nnx.to_flat_state(rngs))
        ]
    )


def _maker(model: Any) -> Callable[[Any], Any]:
    if isinstance(model, nnx.Module):
        return lambda rngs: model
    parameters = inspect.signature(model).parameters.values()
    # A class of NNX shows (*args, **kwargs), also inside a partial.
    if any(each.name == "rngs" or each.kind is each.VAR_KEYWORD for each in parameters):
        return lambda rngs: model(rngs=rngs)
    return model
