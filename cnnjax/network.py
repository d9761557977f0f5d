"""One face for every network: two pure functions of arrays, whatever library it is written in.

`as_network` takes a Flax Linen module; a Flax NNX module, or a function from `rngs` to one; an Equinox
module; a pair `(init, apply)` of functions; or Haiku's, which is such a pair. Training sees the `Network`
alone that it returns. A library is imported only if the object that was brought is that library's.
"""

import dataclasses
import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import jax
from flax import linen as nn

from cnnjax.errors import UserError

Variables = dict[str, Any]
"""Parameters, a tree of arrays, under "params"; whatever else a network carries under other names."""

MODES = {"train": True, "training": True, "is_training": True, "deterministic": False}
"""The keywords by which networks are told that they are trained, and their value when they are."""


class Forward(Protocol):
    """A network's forward pass."""

    def __call__(
        self,
        variables: Variables,
        inputs: Any,
        *,
        train: bool,
        key: jax.Array | None = None,
        extra: Sequence[str] = (),
    ) -> tuple[Any, Variables]:
        """Outputs, and the collections that changed: all carried ones in training, and those in `extra`."""
        ...


@dataclasses.dataclass(frozen=True)
class Network:
    """A network as pure functions.

    Attributes:
        source: the object that was brought; a Linen module for one of Linen's.
        init: random key and inputs [batch, ...], of which only shapes and types matter, to `Variables`.
        apply: variables and inputs to outputs and what changed; see `Forward`.
    """

    source: Any
    init: Callable[[jax.Array, Any], Variables]
    apply: Forward


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
        return _linen(model)
    if _is_of("equinox", "Module", model):
        return _equinox(model)
    if _is_of("haiku", "Transformed", model) or _is_of("haiku", "TransformedWithState", model):
        return _haiku(model)
    if isinstance(model, tuple) and len(model) == 2 and all(map(callable, model)):
        return _pair(model, *model)
    if _is_of("flax.nnx", "Module", model):
        return _nnx(model, lambda rngs: model)
    if callable(model) and not (isinstance(model, type) and issubclass(model, nn.Module)):
        return _nnx(model, _factory(model))
    raise UserError(
        f"model={_short(model)}: give a flax.linen.Module such as Net(), a function such as "
        "`lambda rngs: Net(rngs=rngs)` for flax.nnx, or a pair of functions (init, apply)"
    )


def mode(function: Callable[..., Any], train: bool) -> dict[str, Any]:
    """The keyword by which `function` is told whether it is trained, with its value; empty if it has none."""
    names = inspect.signature(function).parameters
    return {name: value is train for name, value in MODES.items() if name in names}


def _linen(model: nn.Module) -> Network:
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


def _nnx(model: Any, make: Callable[[Any], Any]) -> Network:
    from flax import nnx

    kinds = (nnx.Param, nnx.RngState, ...)
    made = nnx.eval_shape(lambda: make(nnx.Rngs(0)))
    if not isinstance(made, nnx.Module):
        raise UserError(f"model={_short(model)} returns {_short(made)} for rngs, not a flax.nnx.Module")
    graphs = {}
    for train in (False, True):
        (made.train if train else made.eval)()
        graphs[train] = nnx.split(made, *kinds)

    def as_dict(state: Any, like: Any) -> Any:
        """Nested dicts with strings for keys, of the paths that `like` has: what is sown is no state."""
        known = {path for path, _ in nnx.to_flat_state(like)}
        flat = {path: leaf.get_value() for path, leaf in nnx.to_flat_state(state) if path in known}
        return _nested({tuple(map(str, path)): value for path, value in flat.items()})

    def as_state(tree: Any, like: Any) -> Any:
        return nnx.from_flat_state(
            [(path, leaf.replace(_at(tree, tuple(map(str, path))))) for path, leaf in nnx.to_flat_state(like)]
        )

    def init(key: jax.Array, inputs: Any) -> Variables:
        _, params, _, state = nnx.split(make(nnx.Rngs(key)), *kinds)
        _, like, _, like_state = graphs[False]
        return {"params": as_dict(params, like), "state": as_dict(state, like_state)}

    def apply(variables, inputs, *, train, key=None, extra=()):
        graph, params, rngs, state = graphs[train]
        seeded = _seeded(rngs, jax.random.key(0) if key is None else key)
        parts = as_state(variables["params"], params), seeded, as_state(variables["state"], state)
        module = nnx.merge(graph, *parts)
        outputs = module(inputs, **mode(module.__call__, train))
        changed = nnx.split(module, *kinds)[3]
        return outputs, {"state": as_dict(changed, state)} if train else {}

    return Network(model, init, apply)


def _seeded(rngs: Any, key: jax.Array) -> Any:
    """NNX's random streams, begun anew from a step's key: so a step is a function of (seed, step)."""
    from flax import nnx

    def value(number: int, leaf: Any) -> jax.Array:
        if isinstance(leaf, nnx.RngKey):
            return jax.random.fold_in(key, number)
        return jax.numpy.zeros(leaf.shape, leaf.dtype)

    return nnx.from_flat_state(
        [
            (path, leaf.replace(value(number, leaf)))
            for number, (path, leaf) in enumerate(nnx.to_flat_state(rngs))
        ]
    )


def _factory(model: Callable[..., Any]) -> Callable[[Any], Any]:
    if isinstance(model, type):
        return lambda rngs: model(rngs=rngs)
    return model


def _equinox(model: Any) -> Network:
    import equinox  # pyright: ignore[reportMissingImports]

    arrays, rest = equinox.partition(model, equinox.is_inexact_array)
    leaves, structure = jax.tree.flatten(arrays)
    paths = [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_flatten_with_path(arrays)[0]]

    def init(key: jax.Array, inputs: Any) -> Variables:
        return {"params": dict(zip(paths, leaves, strict=True))}

    def apply(variables, inputs, *, train, key=None, extra=()):
        params = [variables["params"][path] for path in paths]
        module = equinox.combine(jax.tree.unflatten(structure, params), rest)
        module = module if train else equinox.nn.inference_mode(module)
        if key is None or "key" not in inspect.signature(module.__call__).parameters:
            return jax.vmap(module)(inputs), {}
        keys = jax.random.split(key, len(jax.tree.leaves(inputs)[0]))
        return jax.vmap(lambda x, key: module(x, key=key))(inputs, keys), {}

    return Network(model, init, apply)


def _haiku(model: Any) -> Network:
    if _is_of("haiku", "Transformed", model):
        return _pair(model, model.init, lambda params, x, key=None: model.apply(params, key, x))
    return _pair(model, model.init, lambda params, state, x, key=None: model.apply(params, state, key, x))


def _pair(model: Any, init_function: Callable[..., Any], apply_function: Callable[..., Any]) -> Network:
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
            f"model={_short(model)}: the second function must be apply(params, inputs) or "
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
            raise UserError(f"model={_short(model)}: init must return (params, state), as apply takes both")
        return {"params": found[0], "state": found[1]}

    def apply(variables, inputs, *, train, key=None, extra=()):
        keywords: Mapping[str, Any] = {**mode(apply_function, train), **({"key": key} if has_key else {})}
        if not stateful:
            return apply_function(variables["params"], inputs, **keywords), {}
        outputs, state = apply_function(variables["params"], variables["state"], inputs, **keywords)
        return outputs, {"state": state} if train else {}

    return Network(model, init, apply)


def _is_of(library: str, name: str, value: Any) -> bool:
    """Whether `value` is of a class of a library, which must have been imported for that."""
    kind = getattr(sys.modules.get(library), name, None)
    return isinstance(kind, type) and isinstance(value, kind)


def _nested(flat: Mapping[tuple[str, ...], Any]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for (*parents, last), value in flat.items():
        node = tree
        for name in parents:
            node = node.setdefault(name, {})
        node[last] = value
    return tree


def _at(tree: Any, path: tuple[str, ...]) -> Any:
    for name in path:
        tree = tree[name]
    return tree


def _short(value: Any) -> str:
    """`value` as a message shows it."""
    text = " ".join(repr(value).split())
    return text if len(text) <= 60 else f"{text[:57]}..."
