"""One step of training and one of evaluation, as pure functions for `jit`."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct

from cnnjax.network import Variables
from cnnjax.probes.found import Taps
from cnnjax.probes.probe import Probe, StepContext, Together
from cnnjax.probes.trace import Trace
from cnnjax.training.task import Moment, Task

Metrics = dict[str, jax.Array]
Measured = dict[str, Any]
"""What probes measured, by the probe's name and its own."""


@struct.dataclass
class State:
    """All that a run carries from step to step; arrays only."""

    step: jax.Array
    params: Any
    carried: Variables
    """What the network carries besides, such as {"batch_stats": ...}."""
    opt_state: Any
    gradients: Any = None
    """Of the step before, 0 if there was none, in runs with a probe that compares them; else None."""
    average: Any = None
    """Exponential moving average of the parameters, if the task has one; else None."""

    @property
    def variables(self) -> Variables:
        """What the network's `apply` takes."""
        return {"params": self.params, **self.carried}

    @property
    def averaged_variables(self) -> Variables:
        """The same with the averaged parameters."""
        return {"params": self.average, **self.carried}


def init_state(task: Task, optimizer: optax.GradientTransformation, key: jax.Array, inputs: Any) -> State:
    """The state at step 0; `inputs` [batch, ...] are the network's, of which only shapes and types matter."""
    variables = task.init(key, inputs)
    params = variables["params"]
    carried = {name: tree for name, tree in variables.items() if name != "params"}
    gradients = jax.tree.map(jnp.zeros_like, params) if compares_gradients(task.probes) else None
    average = params if task.averaging else None
    return State(jnp.zeros((), jnp.int32), params, carried, optimizer.init(params), gradients, average)


def compares_gradients(probes: Sequence[Probe]) -> bool:
    """Whether a run with these probes keeps each step's gradients for the next."""
    return any(probe.compares_gradients for probe in probes)


def at_step(run_key: jax.Array, step: Any) -> tuple[Moment, jax.Array]:
    """The moment of a step's augmentation, and the step's key for the rest, from the run's key."""
    own, rest = jax.random.split(jax.random.fold_in(run_key, step))
    return Moment(own, run_key, step), rest


def make_train_step(
    task: Task,
    optimizer: optax.GradientTransformation,
    schedule: Callable[[Any], Any] | None,
    probes: Sequence[Probe] = (),
    gather: Callable[[Any], Any] = lambda params: params,
) -> Callable[..., tuple[State, Metrics, Measured]]:
    """A function of (state, raw inputs, labels, key) to (state, metrics, what the probes measured).

    Inputs [batch, ...] and labels [batch] are this step's. `key` belongs to the run; the step's own is folded
    from it. Metrics are scalars of the batch before the update: `train_loss` and `train_NAME` for each of the
    task's metrics (means, with the labels as they were before augmentation), and `learning_rate` where there
    is a `schedule`.

    The outputs that a network sows in its collection "auxiliary" have losses too, which its field
    `auxiliary_weight` weighs; gradients are of the sum, `train_loss` is without them.

    `gather` brings parameters together that lie divided over devices.
    """
    measure = Together(probes)
    update = optax.with_extra_args_support(optimizer).update

    def train_step(state: State, raw: Any, labels: Any, key: jax.Array):
        moment, key = at_step(key, state.step)
        x, y = task.augment(moment, task.normalize(raw), labels)

        def forward(params: Any, x: Any) -> tuple[Any, Variables]:
            variables = {"params": gather(params), **state.carried}
            return task.network.apply(variables, x, train=True, key=key, extra=["auxiliary"])

        trace = Trace(forward, state.params, x, measure) if measure.parts else None

        def objective(params: Any, taps: Taps | None) -> Any:
            (outputs, new), records = trace.run(params, x, taps) if trace else (forward(params, x), None)
            value, loss = _losses(task, outputs, new, y)
            return value, (loss, outputs, new, records)

        gradient = jax.value_and_grad(objective, (0, 1), has_aux=True)
        taps = trace.taps() if trace else None
        (value, (loss, outputs, new, records)), (grads, tapped) = gradient(state.params, taps)
        updates, opt_state = update(
            grads,
            state.opt_state,
            state.params,
            value=value,
            grad=grads,
            value_fn=lambda params: objective(params, taps)[0],
        )
        metrics = {"train_loss": loss}
        for name, metric in task.metrics.items():
            # As in a test the labels are the data's: an augmentation may have mixed them.
            metrics[f"train_{name}"] = jnp.mean(metric(outputs, labels), dtype=loss.dtype)
        if schedule is not None:
            metrics["learning_rate"] = schedule(state.step)
        context = StepContext(
            step=state.step,
            key=key,
            inputs=x,
            labels=y,
            outputs=outputs,
            loss=loss,
            variables=state.variables,
            gradients=grads,
            updates=updates,
            previous_gradients=state.gradients,
            layers=None,
            network=task.network,
            losses=task.loss,
        )
        layers = trace.watched(records, tapped) if trace else None
        measured = {
            probe.name: probe.measure(dataclasses.replace(context, layers=measure.part(probe, layers)))
            for probe in probes
        }
        return _next_state(task, state, grads, updates, opt_state, new), metrics, measured

    return train_step


def _losses(task: Task, outputs: Any, new: Variables, y: Any) -> tuple[jax.Array, jax.Array]:
    """What training minimises, and the loss of the outputs alone."""
    value = loss = task.loss(outputs, y).mean()
    for head in jax.tree.leaves(new.get("auxiliary", {})):
        value += task.network.source.auxiliary_weight * task.loss(head, y).mean()
    return value, loss


def _next_state(task: Task, state: State, grads: Any, updates: Any, opt_state: Any, new: Variables) -> State:
    params = optax.apply_updates(state.params, updates)
    average = state.average
    if task.averaging:
        average = optax.incremental_update(params, state.average, 1 - task.averaging)
    return State(
        step=state.step + 1,
        params=params,
        carried={name: new.get(name, tree) for name, tree in state.carried.items()},
        opt_state=opt_state,
        gradients=None if state.gradients is None else grads,
        average=average,
    )


def in_one_dispatch(
    train_step: Callable[..., tuple[State, Metrics, Measured]], select_batch: Callable[[Any, Any], tuple]
) -> Callable[..., tuple[State, Metrics, Measured]]:
    """A function of (state, dataset arrays, batch inputs, key): so many steps in one program.

    `select_batch` gives a step's inputs and labels from the data set's arrays, which are the same for all
    steps, and its part of the batch inputs, whose arrays are [step, ...]. All that it gives is [step, ...].
    """

    def train_steps(state: State, dataset_arrays: Any, batch_inputs: Any, key: jax.Array):
        def body(state: State, its_own: Any):
            state, metrics, measured = train_step(state, *select_batch(dataset_arrays, its_own), key)
            return state, (metrics, measured)

        # One step is no loop (0 unrolls all of it), inside of which XLA compiles for CPUs less well.
        steps = len(jax.tree.leaves(batch_inputs)[0])
        state, (metrics, measured) = jax.lax.scan(body, state, batch_inputs, unroll=0 if steps == 1 else 1)
        return state, metrics, measured

    return train_steps


def make_eval_step(
    task: Task, gather: Callable[[Any], Any] = lambda params: params
) -> Callable[..., Metrics]:
    """A function of (variables, raw inputs, labels, counted) to the sums of the loss and each metric.

    `counted` [batch] is False for the padding of the last batch; `gather` is as in `make_train_step`.
    """

    def eval_step(variables: Variables, raw: Any, labels: Any, counted: jax.Array) -> Metrics:
        variables = {**variables, "params": gather(variables["params"])}
        outputs, _ = task.network.apply(variables, task.normalize(raw), train=False)
        each = {"loss": task.test_loss or task.loss, **task.metrics}
        return {name: jnp.sum(values(outputs, labels) * counted) for name, values in each.items()}

    return eval_step
