"""Try users' objects on shapes alone, to report mistakes before anything is compiled or written."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax

from cnnjax.errors import UserError
from cnnjax.objects import describe, fingerprint
from cnnjax.optimizers import path_name
from cnnjax.training.task import Moment, Task

KEY = jax.ShapeDtypeStruct((), jax.dtypes.prng_key)


def try_out(task: Task, own_objects: Mapping[str, Any], raw: Any, labels: Any) -> tuple[bool, dict[str, str]]:
    """Whether outputs are logits of the data's classes, and a fingerprint of each of the user's objects.

    Args:
        task: what will be trained.
        own_objects: the objects among its parts, by their names as arguments of `train`.
        raw: shapes of a batch of raw inputs, [batch, ...].
        labels: shapes of its labels, [batch, ...].

    Raises:
        UserError: an object fails on these shapes or returns something of the wrong kind.
    """
    network, key = task.network, jax.eval_shape(lambda: jax.random.key(0))
    inputs = jax.eval_shape(task.normalize, raw)
    step: Any = jax.ShapeDtypeStruct((), jnp.int32)
    moment = Moment(key, key, step)
    with _blamed("augment", own_objects):
        x, y = jax.eval_shape(task.augment, moment, inputs, labels)
    with _blamed("model", own_objects, f" on inputs {_show(inputs)}"):
        variables = jax.eval_shape(network.init, key, inputs)

    def forward(variables: Any, x: Any, key: Any) -> Any:
        return network.apply(variables, x, train=True, key=key)

    with _blamed("model", own_objects, f" on inputs {_show(x)}"):
        outputs, new = jax.eval_shape(forward, variables, x, key)
        jax.eval_shape(lambda variables, x: network.apply(variables, x, train=False), variables, inputs)
    _check_carried(own_objects, variables, new)
    if "model" in own_objects:
        _check_outputs(own_objects, outputs, jax.tree.leaves(labels)[0].shape[0])
    are_logits = _are_logits(outputs, labels, task.data.classes, exactly="loss" in own_objects)
    if "loss" not in own_objects and not are_logits:
        raise UserError(
            f"the loss {task.config.loss} takes logits [batch, {task.data.classes or 'class'}] and whole "
            f"labels [batch], but outputs are {_show(outputs)} and labels {_show(labels)}: give loss=, a "
            "function of both to [batch]"
        )
    with _blamed("augment", own_objects, f": the loss does not take the labels {_show(y)} that it gives"):
        _check_per_example("loss", own_objects, task.loss, outputs, y)
    _check_per_example("loss", own_objects, task.loss, outputs, labels)  # as in a test
    for name, metric in task.metrics.items():
        if name != "error" or are_logits:
            what = f"metrics[{name!r}]"
            _check_per_example(what, {what: metric}, metric, outputs, labels)
    found = {}
    if "model" in own_objects:
        found["model"] = fingerprint(forward, variables, x, key)
    if "loss" in own_objects:
        found["loss"] = fingerprint(task.loss, outputs, y)
    if "augment" in own_objects:
        found["augment"] = fingerprint(task.augment, moment, inputs, labels)
    if "optimizer" in own_objects:
        found["optimizer"] = _fingerprint_of_optimizer(task, own_objects, variables["params"])
    if {"model", "loss"} & set(own_objects):
        _check_every_parameter_counts(task, own_objects, variables, x, y, key)
    return are_logits, found


def _check_per_example(
    what: str, own_objects: Mapping[str, Any], function: Any, outputs: Any, labels: Any
) -> jax.ShapeDtypeStruct:
    """The shape that `function` gives; raises UserError unless it is one number for each example."""
    with _blamed(what, own_objects, f" on outputs {_show(outputs)} and labels {_show(labels)}"):
        found = jax.eval_shape(function, outputs, labels)
    batch = jax.tree.leaves(labels)[0].shape[0]
    if getattr(found, "shape", None) != (batch,):
        raise UserError(
            f"{what}={describe(function)} must give one number for each example, [batch]; for outputs "
            f"{_show(outputs)} and labels {_show(labels)} it gives {_show(found)}"
        )
    return found


@contextlib.contextmanager
def _blamed(what: str, own_objects: Mapping[str, Any], where: str = "") -> Iterator[None]:
    """Report what fails inside as a mistake in the object, if it is one of the user's."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # a user's object may raise anything
        if what not in own_objects:
            raise
        reason = (str(error).strip() or "no message").splitlines()[0][:200]
        raise UserError(
            f"{what}={describe(own_objects[what])} fails{where}: {type(error).__name__}: {reason}"
        ) from error


def _check_outputs(own_objects: Mapping[str, Any], outputs: Any, batch: int) -> None:
    leaves = jax.tree.leaves(outputs)
    if not leaves or any(leaf.shape[:1] != (batch,) for leaf in leaves):
        raise UserError(
            f"model={describe(own_objects['model'])} must give outputs [batch, ...]; "
            f"for {batch} examples it gives {_show(outputs)}"
        )


def _are_logits(outputs: Any, labels: Any, classes: int | None, exactly: bool) -> bool:
    """Whether outputs are [batch, class] for whole labels [batch]; `exactly`: with no more classes."""
    shape = getattr(outputs, "shape", ())
    return (
        classes is not None
        and len(shape) == 2
        and (shape[1] == classes if exactly else shape[1] >= classes)
        and getattr(labels, "ndim", 0) == 1
        and jnp.issubdtype(labels.dtype, jnp.integer)
    )


def _check_carried(own_objects: Mapping[str, Any], variables: Any, new: Any) -> None:
    """Check that the network's collections leave a step with the shapes they had before."""
    for name, tree in variables.items():
        after = new.get(name, tree)
        if name != "params" and jax.tree.map(_shape_of, tree) != jax.tree.map(_shape_of, after):
            raise UserError(
                f"model={describe(own_objects.get('model'))}: its collection {name!r} changes shape from "
                f"{_show(tree)} to {_show(after)} in a step; it must keep it"
            )


def _check_every_parameter_counts(
    task: Task, own_objects: Mapping[str, Any], variables: Any, x: Any, y: Any, key: Any
) -> None:
    """Check that the loss depends on every parameter that is not frozen."""
    carried = {name: tree for name, tree in variables.items() if name != "params"}

    def loss(params: Any, carried: Any, x: Any, y: Any, key: Any) -> jax.Array:
        outputs, new = task.network.apply(
            {"params": params, **carried}, x, train=True, key=key, extra=("auxiliary",)
        )
        heads = [outputs, *jax.tree.leaves(new.get("auxiliary", {}))]
        return jnp.stack([task.loss(head, y).mean() for head in heads]).sum()

    what = "model" if "model" in own_objects else "loss"
    with _blamed(what, own_objects, " in the backward pass"):
        traced = jax.make_jaxpr(jax.grad(loss))(variables["params"], carried, x, y, key)
    paths = [path_name(path) for path, _ in jax.tree_util.tree_flatten_with_path(variables["params"])[0]]
    counts = _depends_on_arguments(traced.jaxpr)
    frozen = task.frozen(variables["params"])
    lost = [path for path, used, fixed in zip(paths, counts, frozen, strict=True) if not (used or fixed)]
    if lost:
        raise UserError(
            f"{what}={describe(own_objects[what])}: the loss does not depend on the parameter {lost[0]!r}"
            f"{f' and {len(lost) - 1} others' if lost[1:] else ''}: leave it out of the network, or out of "
            f"training by freeze={lost[0]!r}"
        )


def _depends_on_arguments(jaxpr: Any) -> list[bool]:
    """For each result whether it depends on an argument; a loop or call depends on all that it is given."""
    depends = {id(var) for var in jaxpr.invars}
    for equation in jaxpr.eqns:
        if any(id(var) in depends for var in equation.invars):
            depends |= {id(var) for var in equation.outvars}
    return [id(var) in depends for var in jaxpr.outvars]


def _fingerprint_of_optimizer(task: Task, own_objects: Mapping[str, Any], params: Any) -> str:
    optimizer = task.optimizer(task.config.learning_rate, task.config.weight_decay)
    with _blamed("optimizer", own_objects):
        state = jax.eval_shape(optimizer.init, params)

        def update(gradients: Any, state: Any, params: Any) -> Any:
            extra = {"value": jnp.zeros(()), "grad": gradients, "value_fn": lambda params: jnp.zeros(())}
            return optax.with_extra_args_support(optimizer).update(gradients, state, params, **extra)

        return fingerprint(update, params, state, params)


def _shape_of(leaf: Any) -> tuple[Any, ...]:
    return (leaf.shape, leaf.dtype)


def _show(tree: Any) -> str:
    shapes: Sequence[str] = [f"{leaf.dtype}{list(leaf.shape)}" for leaf in jax.tree.leaves(tree)]
    return ", ".join(shapes[:4]) + (", ..." if len(shapes) > 4 else "") or "nothing"
