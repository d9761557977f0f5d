"""Networks that are a pair of functions."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import jax

from cnnjax.errors import UserError
from cnnjax.network.base import MODES, Network, Variables, mode, short_repr


def network(model: Any, init_function: Callable[..., Any], apply_function: Callable[..., Any]) -> Network:
    """`model`, which is these two functions (`cnnjax.network.as_network`).

    Raises:
        UserError: the second takes other arguments than it should, or `init` returns no state for it.
    """
    named = {*MODES, "key"}
    positions = [
        name
        for name, parameter in inspect.signature(apply_function).parameters.items()
        if name not in named
        and parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD)
        and parameter.default is parameter.empty
    ]
    if len(positions) not in (2, 3):
        raise UserError(
            f"model={short_repr(model)}: the second function must be apply(params, inputs) or "
            f"apply(params, state, inputs), but it takes ({', '.join(positions)})"
        )
    stateful = len(positions) == 3
    takes_inputs = len(inspect.signature(init_function).parameters) > 1
    has_key = "key" in inspect.signature(apply_function).parameters

    def init(key: jax.Array, inputs: Any) -> Variables:
        if takes_inputs:  # by shape alone, so that nothing is computed
            inputs = jax.tree.map(lambda x: jax.numpy.zeros((1, *x.shape[1:]), x.dtype), inputs)
        found = init_function(key, inputs) if takes_inputs else init_function(key)
        if not stateful:
            return {"params": found}
        if not (isinstance(found, tuple) and len(found) == 2):
            raise UserError(
                f"model={short_repr(model)}: init must return (params, state), as apply takes both"
            )
        return {"params": found[0], "state": found[1]}

    def apply(variables, inputs, *, train, key=None, extra=()):
        keywords: Mapping[str, Any] = {**mode(apply_function, train), **({"key": key} if has_key else {})}
        if not stateful:
            return apply_function(variables["params"], inputs, **keywords), {}
        outputs, state = apply_function(variables["params"], variables["state"], inputs, **keywords)
        return outputs, {"state": state} if train else {}

    return Network(model, init, apply)
