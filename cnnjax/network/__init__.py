"""One face for every network: two pure functions of arrays, whatever library it is written in.

`as_network` takes a Flax Linen module; a Flax NNX module, or a function from `rngs` to one; an Equinox
module, or a pair of one and its state; a Keras model on the JAX backend; a pair `(init, apply)` of functions;
or Haiku's, which is such a pair. Training and probes see the `Network` alone that it returns. Each library
has a file here, which is imported only for an object of that library.
"""

import sys
from typing import Any

from flax import linen as nn

from cnnjax.errors import UserError
from cnnjax.network.base import MODES, Forward, Network, Variables, mode, short_repr

__all__ = ["MODES", "Forward", "Network", "Variables", "as_network", "mode"]


def as_network(model: Any) -> Network:
    """`model` as a `Network`.

    A pair is `init(key, inputs)` or `init(key)`, to parameters or to (parameters, state); and
    `apply(params, inputs)` to outputs, or `apply(params, state, inputs)` to (outputs, state). `apply` is
    given `key` and one of `MODES` by keyword if it has such parameters.

    Raises:
        UserError: it is none of these.
    """
    if isinstance(model, Network):
        return model
    if isinstance(model, nn.Module):
        from cnnjax.network import linen

        return linen.network(model)
    stateful = isinstance(model, tuple) and len(model) == 2 and _is_of("equinox.nn", "State", model[1])
    if stateful or _is_of("equinox", "Module", model):
        from cnnjax.network import equinox

        return equinox.network(*model) if stateful else equinox.network(model)
    if _is_of("keras", "Layer", model):
        from cnnjax.network import keras

        return keras.network(model)
    if _is_of("haiku", "Transformed", model) or _is_of("haiku", "TransformedWithState", model):
        from cnnjax.network import haiku

        return haiku.network(model)
    if isinstance(model, tuple) and len(model) == 2 and all(map(callable, model)):
        from cnnjax.network import pair

        return pair.network(model, *model)
    if callable(model) and not (isinstance(model, type) and issubclass(model, nn.Module)):
        from cnnjax.network import nnx

        return nnx.network(model)
    raise UserError(
        f"model={short_repr(model)}: give a flax.linen.Module such as Net(), a function such as "
        "`lambda rngs: Net(rngs=rngs)` for flax.nnx, or a pair of functions (init, apply)"
    )


def _is_of(library: str, name: str, value: Any) -> bool:
    """Whether `value` is of a class of a library, which must have been imported for that."""
    kind = getattr(sys.modules.get(library), name, None)
    return isinstance(kind, type) and isinstance(value, kind)
