"""A network's trace, in which modules are marked; nothing is computed."""

import contextlib
import dataclasses
import gc
import inspect
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.core.scope import Scope
from jax.extend.core import Literal, get_opaque_trace_state

from cnnjax.counting.walk import BEGIN, END, TWIN, Names, Reach, Row, Walk
from cnnjax.ops.activations import Elementwise
from cnnjax.ops.norm import BatchNorm


def rows(model: nn.Module, image: tuple[int, ...]) -> list[Row]:
    """The layers of a network for an image [height, width, channel], in the order of their calls."""
    kinds: dict[Names, str] = {}
    twins: dict[Any, tuple[Names, Any, Any]] = {}
    calling: list[nn.Module] = []

    def mark(call: Callable, args: tuple, kwargs: dict, context: Any) -> Any:
        module, path = context.module, context.module.path
        if context.method_name != "__call__" or (calling and calling[-1] is module):  # super().__call__
            return call(*args, **kwargs)
        kinds.setdefault(path, type(module).__name__)
        if isinstance(module, Elementwise):  # it neither costs nor sees anything
            return args[0]
        key = _identity(module, args, kwargs)
        trace = get_opaque_trace_state(convention="flax")
        twin, result, where = twins.get(key, ((), None, None))
        if where == trace:  # a trace within, of a loop's body, may be thrown away with all twins in it
            leaves, tree = jax.tree.flatten(result)
            return tree.unflatten(TWIN.bind(*args, path=path, twin=twin, results=tuple(leaves)))
        inputs = [arg for arg in args if isinstance(arg, jax.Array)]
        marked = iter(BEGIN.bind(*inputs, path=path))
        calling.append(module)
        # Arithmetic alone, which jnp would trace as a program for each of its operations.
        is_plain = isinstance(module, BatchNorm)
        with jax.disable_jit() if is_plain else contextlib.nullcontext():
            result = call(*(next(marked) if isinstance(arg, jax.Array) else arg for arg in args), **kwargs)
        calling.pop()
        if key is not None:
            twins[key] = path, jax.tree.map(jax.typeof, result), trace
        leaves, tree = jax.tree.flatten(result)
        return tree.unflatten(END.bind(*leaves, path=path))

    train: Any = {"train": False} if "train" in inspect.signature(type(model).__call__).parameters else {}

    def initialise(key: jax.Array, images: jax.Array) -> Any:
        with nn.intercept_methods(mark):
            return model.init_with_output(key, images, **train)

    inputs = jax.eval_shape(lambda: (jax.random.key(0), jnp.zeros((1, *image))))
    with _without_collection(), _without_drawing():
        jaxpr, (_, variables) = jax.make_jaxpr(initialise, return_shape=True)(*inputs)
    walk = Walk(variables.get("params", {}), kinds)
    start = (Reach(0, 0, 1),) * 2
    walk.run(jaxpr.jaxpr, [None, start], alive=_needed(jaxpr.jaxpr))
    return walk.rows


@contextlib.contextmanager
def _without_collection() -> Iterator[None]:
    """Tracing makes many small objects that stay; to look for garbage among them is a third of its time."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


@contextlib.contextmanager
def _without_drawing() -> Iterator[None]:
    """Parameters are zeros of their shapes: to trace how they are drawn is half of the time, and in vain."""
    param = Scope.param

    def zeros(scope: Scope, name: str, init: Callable, *args: Any, **kwargs: Any) -> Any:
        if not args or not isinstance(args[0], tuple):
            return param(scope, name, init, *args, **kwargs)
        if not scope.has_variable("params", name):
            scope.put_variable("params", name, jnp.zeros(*args[:2]))
        return scope.get_variable("params", name)

    Scope.param = zeros  # pyright: ignore[reportAttributeAccessIssue]
    try:
        yield
    finally:
        Scope.param = param


def _identity(module: nn.Module, args: tuple, kwargs: dict) -> Any:
    """What makes two modules the same but for their names; None if there is nothing to compare."""
    if len(args) != 1 or not isinstance(args[0], jax.Array):
        return None
    fields = [(f.name, getattr(module, f.name)) for f in dataclasses.fields(module)]  # pyright: ignore
    own = tuple((name, value) for name, value in fields if name not in ("parent", "name"))
    key = (type(module), own, jax.typeof(args[0]), tuple(kwargs.items()))
    try:
        hash(key)
    except TypeError:
        return None
    return key


def _needed(jaxpr: Any) -> set[int]:
    """The equations that the first result, the logits, depends on, by position."""
    needed, positions = {jaxpr.outvars[0]}, set()
    for position, equation in reversed(list(enumerate(jaxpr.eqns))):
        if not needed.isdisjoint(equation.outvars):
            positions.add(position)
            needed.update(variable for variable in equation.invars if not isinstance(variable, Literal))
    return positions
