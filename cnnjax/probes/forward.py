"""A network as a function of parameters and images, with BatchNorm's statistics in a named mode.

With BatchNorm the samples of a batch depend on each other, and a derivative is not defined before it is said
what becomes of the statistics:

- "batch": they are those of the images given, and move with the parameters and with every image: the
  function that training differentiates.
- "frozen": they are those of one batch at the given parameters, and constants: the same values, but each
  sample is a function of its own.
- "running": they are the running averages: the function that is evaluated at test time.

Training with a `bn_group_size` has none of a whole batch's statistics: there only "running" is taken.
In all three nothing else of training is on: no dropout, no stochastic depth, no auxiliary classifiers.
"""

from collections.abc import Callable
from typing import Any

import jax
from flax import linen as nn

from cnnjax.errors import UserError
from cnnjax.network import mode
from cnnjax.ops.precision import wide

Network = Callable[[Any, jax.Array], jax.Array]
"""Parameters and images [sample, height, width, channel] to logits [sample, class]."""


def network(model: nn.Module, variables: Any, images: jax.Array, statistics: str = "batch") -> Network:
    """`model` with BatchNorm's `statistics` "batch", "frozen" (those of `images`) or "running".

    Raises:
        UserError: there are no such statistics; or they are not "running" and there is a `bn_group_size` (for
            "batch" the function raises it).
    """
    if statistics not in ("batch", "frozen", "running"):
        raise UserError(f"statistics={statistics!r}: must be batch, frozen or running")
    state = {name: tree for name, tree in variables.items() if name != "params"}
    testing = mode(model.__call__, False)

    def of_batch(params: Any, images: jax.Array) -> tuple[jax.Array, Any]:
        with nn.intercept_methods(_put_statistics):
            return model.apply({**state, "params": params}, images, mutable=["batch_stats"], **testing)  # pyright: ignore

    if statistics == "batch":
        return lambda params, images: of_batch(params, images)[0]
    constants = {**state, **of_batch(variables["params"], images)[1]} if statistics == "frozen" else state
    constants = jax.lax.stop_gradient(constants)
    return lambda params, images: model.apply({**constants, "params": params}, images, **testing)  # pyright: ignore


def _put_statistics(call: Callable, args: tuple, kwargs: dict, context: Any) -> Any:
    """Put the input's mean and variance in the place of a BatchNorm's averages, which it then uses."""
    module = context.module
    if context.method_name == "__call__" and module.has_variable("batch_stats", "mean"):
        if (size := getattr(module, "group_size", None)) is not None:
            raise UserError(
                f"bn_group_size={size}: a network with groups is measured with statistics='running' alone; "
                "build it without for the others"
            )
        x = args[0].astype(wide(args[0].dtype))
        axes = tuple(range(x.ndim - 1))
        module.put_variable("batch_stats", "mean", x.mean(axes))
        module.put_variable("batch_stats", "var", x.var(axes))
    return call(*args, **kwargs)
