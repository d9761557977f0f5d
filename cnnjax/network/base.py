"""What a network is to the rest of the code: two pure functions of arrays."""

import dataclasses
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import jax

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
        own: the variables that the object carries itself; None if it carries none.
    """

    source: Any
    init: Callable[[jax.Array, Any], Variables]
    apply: Forward
    own: Variables | None = None


def mode(function: Callable[..., Any], train: bool) -> dict[str, Any]:
    """The keyword by which `function` is told whether it is trained, with its value; empty if it has none."""
    names = inspect.signature(function).parameters
    return {name: value is train for name, value in MODES.items() if name in names}


def path_names(path: tuple[Any, ...]) -> tuple[str, ...]:
    """The names on a path that `jax.tree_util` gives."""
    return tuple(jax.tree_util.keystr((entry,), simple=True) for entry in path)


def nested(flat: Mapping[tuple[str, ...], Any]) -> dict[str, Any]:
    """Dicts within dicts, of values by path."""
    tree: dict[str, Any] = {}
    for (*parents, last), value in flat.items():
        node = tree
        for name in parents:
            node = node.setdefault(name, {})
        node[last] = value
    return tree


def at(tree: Any, path: tuple[str, ...]) -> Any:
    """What is at a path of such dicts."""
    for name in path:
        tree = tree[name]
    return tree


def short_repr(value: Any) -> str:
    """`value` as a message shows it."""
    text = " ".join(repr(value).split())
    return text if len(text) <= 60 else f"{text[:57]}..."
