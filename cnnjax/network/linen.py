"""Networks of Flax Linen."""

from typing import Any

import jax
from flax import linen as nn

from cnnjax.errors import UserError
from cnnjax.network.base import Network, Variables, mode


def network(model: nn.Module) -> Network:
    """A Linen module; the keyword by which it is told its mode is one of `MODES`."""

    def init(key: jax.Array, inputs: Any) -> Variables:
        shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct((1, *x.shape[1:]), x.dtype), inputs)
        rngs = {"params": key, "dropout": jax.random.fold_in(key, 1)}
        variables = model.lazy_init(rngs, shapes, **mode(model.__call__, False))  # no forward pass is run
        if "params" not in variables:
            raise UserError(f"{type(model).__name__} has no parameters to train")
        return _carried(model, dict(variables), shapes)

    def apply(variables, inputs, *, train, key=None, extra=()):
        mutable = [*(name for name in variables if name != "params"), *extra] if train else list(extra)
        rngs = {} if key is None else {"dropout": key, "params": jax.random.fold_in(key, 1)}
        keywords: dict[str, Any] = {"rngs": rngs, **mode(model.__call__, train)}
        if not mutable:
            return model.apply(variables, inputs, **keywords), {}
        outputs, new = model.apply(variables, inputs, mutable=mutable, **keywords)
        return outputs, dict(new)

    return Network(model, init, apply)


def _carried(model: nn.Module, variables: Variables, inputs: Any) -> Variables:
    """Those of the initial variables that a run carries from step to step.

    What a module sows grows with every call, so it is a record and no state.
    """
    if set(variables) <= {"params", "batch_stats"}:
        return variables

    def call(variables: Variables, inputs: Any) -> Any:
        rngs = {"dropout": jax.random.key(0)}
        return model.apply(variables, inputs, mutable=True, rngs=rngs, **mode(model.__call__, True))[1]

    after = jax.eval_shape(call, variables, inputs)
    return {
        name: tree
        for name, tree in variables.items()
        if jax.tree.structure(tree) == jax.tree.structure(after.get(name, tree))
    }
