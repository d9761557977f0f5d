"""The rows of a network that is not of Flax Linen: its layers, as probes find them in its trace.

Its modules are not seen. A row is a layer's call with the parameters of its module; products without
parameters, as in attention, are one row, and so are the parameters that belong to no layer.
"""

from typing import Any

import jax

from cnnjax.counting.walk import Field, Reach, Row, Walk
from cnnjax.network import Network, Variables
from cnnjax.probes.trace import Trace, by_path

KINDS = {"conv_general_dilated": "convolution", "dot_general": "product", "gather": "look-up"}


def rows(network: Network, variables: Variables, inputs: Any) -> list[Row]:
    """The layers in the order of their calls; of `variables` and `inputs` [2, ...] only shapes matter.

    There are two samples, since of one the axis could not be told from others of length 1.
    """
    params = variables["params"]

    def forward(params: Any, inputs: Any) -> Any:
        return network.apply({**variables, "params": params}, inputs, train=False)[0]

    trace = Trace(forward, params, inputs)
    walk = _Walk(trace, params)
    start = (Reach(0, 0, 1),) * 2
    weights, data = jax.tree.leaves(params), jax.tree.leaves(inputs)
    walk.run(trace.jaxpr, [*([None] * len(weights)), *([start] * len(data))], alive=True)
    return walk.finish()


class _Walk(Walk):
    """Gathers a row for each layer in the place of one for each module."""

    def __init__(self, trace: Trace, params: Any) -> None:
        super().__init__({}, {})
        self.layers = {id(equation) for equation in trace.equations}
        self.calls = iter(zip(trace.layers, trace.weights, trace.shapes, strict=True))
        self.left = {path: leaf.size for path, leaf in by_path(params).items()}
        self.owners = {weight.path[:-1] for weight in trace.weights}
        self.rest = Row((), "product without parameters", (Reach(0, 0, 1),) * 2)
        self.parents = {self.rest.path}
        self.open = [self.rest]

    def step(self, equation: Any, operands: list[Field | None], alive: bool) -> list[Field | None]:
        """The fields of an operation's results, and its row if it is a layer."""
        if id(equation) not in self.layers:
            return super().step(equation, operands, alive)
        name, weight, shape = next(self.calls)
        row = Row((name,), KINDS.get(equation.primitive.name, ""), self.rest.field)
        self.open.append(row)
        (field, *others) = super().step(equation, operands, alive)
        self.open.pop()
        row.field, row.output = field or row.field, (1, *shape)
        own = [path for path in self.left if path[:-1] == weight.path[:-1] or path == weight.path]
        row.parameters = sum(self.left.pop(path) for path in own if path[:-1] or path == weight.path)
        self.rows.append(row)
        return [field, *others]

    def finish(self) -> list[Row]:
        """All rows."""
        if self.rest.macs:
            self.rows.append(self.rest)
        modules: dict[tuple[str, ...], int] = {}
        for path, size in self.left.items():
            modules[path[:-1] or path] = modules.get(path[:-1] or path, 0) + size
        field = (Reach(0, 0, 1),) * 2
        for row in self.rows:
            row.macs, row.connections = row.macs // 2, row.connections // 2
        self.rows += [Row(path, "", field, parameters=size) for path, size in modules.items()]
        return self.rows
