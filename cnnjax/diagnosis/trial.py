"""Plain training steps, to learn one batch by heart."""

from collections.abc import Sequence
from typing import Any

import jax
import optax

from cnnjax.network import Network, Variables
from cnnjax.probes.forward import in_training
from cnnjax.probes.subject import Losses
from cnnjax.probes.taps import norm_of
from cnnjax.probes.trace import by_path


def training_step(
    network: Network,
    loss: Losses,
    optimizer: optax.GradientTransformation,
    variables: Variables,
    opt_state: Any,
    batch: tuple[Any, Any],
    key: jax.Array,
) -> tuple[Variables, Any, jax.Array, Any]:
    """One step: (variables, optimizer state, loss before it, norms of the gradients like the parameters)."""
    inputs, labels = batch
    params, forward = variables["params"], in_training(network, variables, key)

    def objective(params: Any) -> tuple[jax.Array, Variables]:
        outputs, new = forward(params, inputs)
        return loss(outputs, labels).mean(), new

    (value, new), gradients = jax.value_and_grad(objective, has_aux=True)(params)
    updates, opt_state = updates_of(optimizer, gradients, opt_state, params, value, lambda p: objective(p)[0])
    after = {name: new.get(name, tree) for name, tree in variables.items()}
    after["params"] = optax.apply_updates(params, updates)
    return after, opt_state, value, jax.tree.map(norm_of, gradients)


def updates_of(
    optimizer: optax.GradientTransformation,
    gradients: Any,
    opt_state: Any,
    params: Any,
    value: Any,
    loss: Any,
) -> tuple[Any, Any]:
    """What the optimizer adds to the parameters, and its new state; `loss` is a function of parameters."""
    update = optax.with_extra_args_support(optimizer).update
    return update(gradients, opt_state, params, value=value, grad=gradients, value_fn=loss)


def untouched(gradients: Sequence[Any]) -> list[str]:
    """The parameters, by path, that no gradient has reached in any of these steps."""
    by_step = [by_path(each) for each in gradients]
    return ["/".join(path) for path in by_step[0] if all(float(step[path]) == 0 for step in by_step)]
