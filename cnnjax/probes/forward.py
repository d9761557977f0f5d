"""A network as a function of parameters and images, with BatchNorm's statistics in a named mode.

With BatchNorm the samples of a batch depend on each other, and a derivative is not defined before it is said
what becomes of the statistics:

- "batch": they are those of the images given, and move with the parameters and with every image: the
  function that training differentiates.
- "frozen": they are those of one batch at the given parameters, and constants: the same values, but each
  sample is a function of its own.
- "running": they are the running averages: the function that is evaluated at test time.

Training with a `bn_group_size` has none of a whole batch's statistics: there only "running" is taken.

In networks of Flax Linen nothing else of training is on: no dropout, no stochastic depth, no auxiliary
classifiers. Those of other libraries have one switch for all of that: there "batch" and "frozen" have
dropout, with the same mask in every call, and whatever is summed over a batch counts as its statistics.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from cnnjax.errors import UserError
from cnnjax.network import Network, Variables, mode
from cnnjax.ops.precision import wide
from cnnjax.probes.trace import Trace

Function = Callable[[Any, Any], Any]
"""Parameters and inputs [sample, ...] to outputs [sample, ...]."""


def function_of(network: Network, variables: Any, inputs: Any, statistics: str = "batch") -> Function:
    """The network with BatchNorm's `statistics` "batch", "frozen" (those of `inputs`) or "running".

    With "frozen", a network of another library than Linen must be called with all of `inputs`.

    Raises:
        UserError: there are no such statistics; or they are not "running" and there is a `bn_group_size` (for
            "batch" the function raises it).
    """
    if statistics not in ("batch", "frozen", "running"):
        raise UserError(f"statistics={statistics!r}: must be batch, frozen or running")
    state = {name: tree for name, tree in variables.items() if name != "params"}

    def running(params: Any, inputs: Any) -> Any:
        return network.apply({**state, "params": params}, inputs, train=False)[0]

    if statistics == "running":
        return running
    if isinstance(network.source, nn.Module):
        return _of_linen(network.source, variables["params"], state, inputs, statistics)

    step = in_training(network, variables, jax.random.key(0))

    def training(params: Any, inputs: Any) -> Any:
        return step(params, inputs)[0]

    return training if statistics == "batch" else _frozen(training)


def in_training(
    network: Network, variables: Variables, key: jax.Array
) -> Callable[[Any, Any], tuple[Any, Variables]]:
    """The forward pass of a training step: parameters and inputs to outputs and what the network carries on.

    All of training is on, such as dropout, by `key`; `variables` has what the network carries so far.
    """

    def forward(params: Any, inputs: Any) -> tuple[Any, Variables]:
        return network.apply({**variables, "params": params}, inputs, train=True, key=key)

    return forward


def ties_samples(function: Function, params: Any, inputs: Any) -> bool:
    """Whether a sample's output depends on other samples: something is summed over the batch."""
    return Trace(function, params, inputs).ties_samples


Run = Callable[[Function, Any, Any], Any]
"""Computes a function of parameters and inputs, perhaps with a part of it changed."""


def reestimate(network: Network, variables: Variables, inputs: Any, run: Run) -> Variables:
    """What the network carries, with BatchNorm's running averages those of `inputs` [sample, ...] alone.

    In networks of Flax Linen nothing else of training is on. Those of other libraries make one training step
    each from averages of 0 and of 1: as the new ones are decay * old + (1 - decay) * batch, both give the
    batch's. `run` computes the network, so that the averages can be those of a damaged one.
    """
    params, state = variables["params"], {name: tree for name, tree in variables.items() if name != "params"}
    if isinstance(network.source, nn.Module):
        if "batch_stats" not in state:
            return state
        of_batch = _with_batch_statistics(network.source, state)
        return {**state, **run(lambda params, inputs: of_batch(params, inputs)[1], params, inputs)}

    def after(value: float) -> Any:
        filled = jax.tree.map(lambda leaf: jnp.full_like(leaf, value) if _is_float(leaf) else leaf, state)
        step = in_training(network, {**variables, **filled}, jax.random.key(0))
        return run(lambda params, inputs: step(params, inputs)[1], params, inputs)

    def average(old: Any, zero: Any, one: Any) -> Any:
        return zero / (1 - (one - zero)) if _is_float(old) else old

    zero, one = after(0.0), after(1.0)
    return {name: jax.tree.map(average, tree, zero[name], one[name]) for name, tree in state.items()}


def _is_float(leaf: Any) -> bool:
    return jnp.issubdtype(jnp.result_type(leaf), jnp.floating)


def _frozen(function: Function) -> Function:
    """The same values, but what is summed over the batch counts as constant."""

    def frozen(params: Any, inputs: Any) -> Any:
        return Trace(function, params, inputs, frozen=True).run(params, inputs)[0]

    return frozen


def _with_batch_statistics(model: nn.Module, state: Any) -> Callable[[Any, Any], tuple[Any, Any]]:
    """From parameters and images to outputs by the images' own statistics, and these as running averages."""
    testing = mode(model.__call__, False)

    def of_batch(params: Any, images: Any) -> tuple[Any, Any]:
        with nn.intercept_methods(_put_statistics):
            return model.apply({**state, "params": params}, images, mutable=["batch_stats"], **testing)  # pyright: ignore

    return of_batch


def _of_linen(model: nn.Module, params: Any, state: Any, images: Any, statistics: str) -> Function:
    testing, of_batch = mode(model.__call__, False), _with_batch_statistics(model, state)
    if statistics == "batch":
        return lambda params, images: of_batch(params, images)[0]
    constants = jax.lax.stop_gradient({**state, **of_batch(params, images)[1]})
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
