"""A residual network that is trained by its short paths alone, for `Config.model` to name."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from cnnjax.errors import UserError
from cnnjax.models import build
from cnnjax.network import Network, Variables, as_network
from cnnjax.probes.taps import gate_branch
from cnnjax.probes.trace import Trace


def short_paths(num_classes: int, dtype: Any, model: str, opened: int, width: int) -> Network:
    """The residual net `model`, with so many randomly chosen blocks open in each training step.

    Veit et al. 2016, section 5, open 23 of 54. The others only pass on what they take, so paths are at most
    `opened` long. In test all branches are there, each `opened` / blocks times, which is how often it was
    open: as in stochastic depth (Huang et al. 2016).
    """
    network = as_network(build(model, num_classes=num_classes, dtype=dtype, width=width))

    def apply(
        variables: Variables,
        inputs: Any,
        *,
        train: bool,
        key: jax.Array | None = None,
        extra: Sequence[str] = (),
    ) -> tuple[Any, Variables]:
        state = {name: tree for name, tree in variables.items() if name != "params"}

        def forward(params: Any, inputs: Any) -> tuple[Any, Variables]:
            return network.apply({**state, "params": params}, inputs, train=train, key=key, extra=extra)

        trace = Trace(forward, variables["params"], inputs, at_join=gate_branch)
        blocks = len(trace.blocks)
        if not 0 < opened <= blocks:
            raise UserError(f"opened={opened}: {model} has {blocks} blocks")
        gates = jnp.full(blocks, opened / blocks)
        if train and key is not None:
            # A key of its own: the layers, such as dropout, take others from the same.
            ranks = jax.random.permutation(jax.random.fold_in(key, blocks), blocks)
            gates = (ranks < opened).astype(gates.dtype)
        return trace.run(variables["params"], inputs, trace.gates(gates))[0]

    return Network(network.source, network.init, apply)
