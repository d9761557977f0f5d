"""A curve of networks between two trained ones, for `Config.model` to name."""

import types
from collections.abc import Sequence
from typing import Any

import jax

from cnnjax.models import build
from cnnjax.network import Network, Variables, as_network
from cnnjax.objects import is_object
from cnnjax.ops.depth import unstack
from cnnjax.recipes import load_named
from cnnjax.runs import open_run


def curve(num_classes: int, dtype: Any, ends: Sequence[str]) -> Network:
    """The quadratic Bezier curve between the runs in the folders `ends`; its parameters are its bend.

    Garipov et al. 2018, section 3.2: (1 - t)^2 a + 2 t (1 - t) bend + t^2 b, with t drawn anew for each
    training step. In test t is 1/2. The bend begins halfway between a and b.
    """
    config = open_run(ends[0]).config
    if is_object(config.model):
        model = load_named(config, types.SimpleNamespace(classes=num_classes))
    else:
        model = build(config.model, num_classes=num_classes, dtype=dtype, **config.model_options)
    network = as_network(model)
    first, last = (unstack(open_run(end).variables)["params"] for end in ends)

    def init(key: jax.Array, inputs: Any) -> Variables:
        return {**network.init(key, inputs), "params": jax.tree.map(lambda a, b: (a + b) / 2, first, last)}

    def apply(
        variables: Variables,
        inputs: Any,
        *,
        train: bool,
        key: jax.Array | None = None,
        extra: Sequence[str] = (),
    ) -> tuple[Any, Variables]:
        t: Any = 0.5
        if train and key is not None:
            t = jax.random.uniform(jax.random.fold_in(key, len(ends)))  # the layers take others from the same
        params = jax.tree.map(
            lambda a, bend, b: (1 - t) ** 2 * a + 2 * t * (1 - t) * bend + t**2 * b,
            first,
            unstack(variables["params"]),
            last,
        )
        return network.apply({**variables, "params": params}, inputs, train=train, key=key, extra=extra)

    return Network(network.source, init, apply)
