"""What can be measured: any network, in whatever library it is written.

layer_statistics(model, variables, batch)      # Flax Linen; Haiku: parameters, or (parameters, state)
layer_statistics(module, None, batch)          # Flax NNX, Equinox, Keras: a module that carries its own
layer_statistics((init, apply), params, batch) # a pair of functions
layer_statistics(function, params, batch)      # a function of (parameters, inputs)
"""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
import optax
from flax import linen as nn
from jax import lax

from cnnjax.errors import UserError, short
from cnnjax.network import MODES, Network, Variables, as_network

Losses = Callable[[Any, Any], jax.Array]
"""Outputs [sample, ...] and labels [sample, ...] to losses [sample, ...]."""
cross_entropy: Losses = optax.softmax_cross_entropy_with_integer_labels


def losses_of(loss: Losses, outputs: Any, labels: Any) -> jax.Array:
    """The loss of each sample, [sample]: of several numbers, such as one for each token, their mean.

    Raises:
        UserError: it fails, or does not give one number or more for each sample.
    """
    given = " and ".join(str(jax.tree.map(np.shape, part)) for part in (outputs, labels))
    try:
        values = loss(outputs, labels)
    except (TypeError, ValueError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:160]
        raise UserError(
            f"loss={short(loss)} fails on outputs and labels of shape {given}: {reason}; give another"
        ) from error
    samples = len(jax.tree.leaves(labels)[0])
    if np.shape(values)[:1] != (samples,):
        raise UserError(
            f"loss={short(loss)} must give one number or more for each sample, [sample, ...]; for outputs "
            f"and labels of shape {given} its result has shape {np.shape(values)}"
        )
    return values.reshape(samples, -1).mean(1)


def mean_loss(
    loss: Losses, function: Callable[[Any], Any], batch: tuple[Any, Any], samples_at_once: int
) -> jax.Array:
    """Mean loss of a function of inputs [sample, ...], so many of which are computed in parallel.

    Raises:
        UserError: as in `losses_of`.
    """

    def total(part: tuple[Any, Any]) -> jax.Array:
        inputs, labels = part
        return losses_of(loss, function(inputs), labels).sum()

    samples = len(jax.tree.leaves(batch)[0])
    size = min(samples_at_once, samples)
    whole = samples // size * size
    parts = jax.tree.map(lambda leaf: leaf[:whole].reshape(-1, size, *leaf.shape[1:]), batch)
    sums = lax.map(total, parts).sum()
    if whole < samples:
        sums += total(jax.tree.map(lambda leaf: leaf[whole:], batch))
    return sums / samples


def as_subject(model: Any, variables: Any) -> tuple[Network, Variables]:
    """A network, and its variables.

    Raises:
        UserError: `model` is no network, or `variables` are not its own.
    """
    if _is_function(model):
        if variables is None:
            raise UserError(f"model={short(model)}: give the parameters that it takes as variables")
        return _of_function(model), {"params": variables}
    network = as_network(model)
    if variables is None:
        if network.own is None:
            raise UserError(f"model={short(model)}: give its variables, which it does not carry itself")
        return network, network.own
    if isinstance(variables, Mapping) and "params" in variables:
        return network, dict(variables)
    if isinstance(model, nn.Module) or not isinstance(model, tuple):
        raise UserError(
            f"variables={short(variables)}: must have 'params', as model.init(...) and result.variables have"
        )
    if isinstance(variables, tuple) and len(variables) == 2:
        return network, dict(zip(("params", "state"), variables, strict=True))
    return network, {"params": variables}


def unpack(model: Any, variables: Any, batch: Any) -> tuple[Network, Variables, tuple[Any, Any]]:
    """A network, its variables, and the inputs [sample, ...] and labels [sample, ...] of a batch.

    Raises:
        UserError: `model` is no network, `variables` are not its own, or that is no batch.
    """
    network, variables = as_subject(model, variables)
    if not isinstance(batch, tuple | list) or len(batch) != 2:
        raise UserError(f"batch={short(batch)}: must be (inputs, labels)")
    inputs, labels = batch
    sizes = {np.shape(leaf)[:1] for leaf in jax.tree.leaves((inputs, labels))}
    if len(sizes) != 1 or sizes == {()}:
        shapes = " and ".join(str(jax.tree.map(np.shape, part)) for part in (inputs, labels))
        raise UserError(f"batch: inputs and labels of shape {shapes}; must be [sample, ...], as many of each")
    return network, variables, (inputs, labels)


def _is_function(model: Any) -> bool:
    """Whether it is a function of (parameters, inputs), and nothing that `as_network` takes."""
    if isinstance(model, type | nn.Module | Network) or not callable(model):
        return False
    if not (inspect.isroutine(model) or hasattr(model, "__wrapped__") or hasattr(model, "func")):
        return False
    given = [p for p in inspect.signature(model).parameters.values() if p.name not in (*MODES, "key")]
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return sum(p.default is p.empty and p.kind in positional for p in given) == 2


def _of_function(function: Callable[..., Any]) -> Network:
    def no_init(*_: Any) -> Any:
        raise UserError("a function of (parameters, inputs) can be measured; to train, give (init, apply)")

    return as_network((no_init, function))
