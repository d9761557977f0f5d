"""A walk over a trace in the order of the calls: what each module costs and sees."""

import dataclasses
import math
from collections import Counter
from collections.abc import Iterable
from typing import Any, NamedTuple

from jax.extend.core import Literal, Primitive, jaxprs_in_params

from cnnjax.probes.control import scan_counts

# Marks in the trace: where a module begins, where it ends, and where one stands for its twin.
BEGIN, END, TWIN = (Primitive(f"module_{mark}") for mark in ("begin", "end", "twin"))
for _mark in (BEGIN, END, TWIN):
    _mark.multiple_results = True
    _mark.def_abstract_eval(lambda *values, results=None, **_: values if results is None else results)

_POOLINGS = {"reduce_window_max": "max_pool", "reduce_window_sum": "average_pool"}
Names = tuple[str, ...]


class Reach(NamedTuple):
    """Along one axis, output p depends on the pixels from step * p + low to step * p + high."""

    low: int
    high: int
    step: int

    def window(self, size: int, strides: int = 1, padding: int = 0) -> "Reach":
        """Of windows over these outputs."""
        low = self.low - self.step * padding
        return Reach(low, low + self.high - self.low + self.step * (size - 1), self.step * strides)

    def follow(self, start: "Reach", end: "Reach") -> "Reach":
        """Where the way that leads from `start` to `end` leads from here."""
        times = self.step / start.step
        low, high = (int(times * (b - a)) for a, b in zip(start[:2], end[:2], strict=True))
        return Reach(self.low + low, self.high + high, int(times * end.step))


Field = tuple[Reach, ...]  # height, width


@dataclasses.dataclass
class Row:
    """What the equations of one module, or of one pooling, add up to."""

    path: Names
    kind: str
    field: Field
    output: tuple[int, ...] = ()
    parameters: int = 0
    macs: int = 0
    connections: int = 0
    alive: bool = True


@dataclasses.dataclass
class _Part:
    """The way through a module: where it begins and ends, and the rows on it."""

    path: Names
    start: Field
    first_row: int
    rows: list[Row] = dataclasses.field(default_factory=list)
    end: Field = ()


def _union(fields: Iterable[Field]) -> Field:
    axes = (zip(*reaches, strict=True) for reaches in zip(*fields, strict=True))
    return tuple(Reach(min(low), max(high), max(step)) for low, high, step in axes)


def _see(equation: Any, field: Field, spatial: tuple[int, int]) -> Field:
    """What the result of one operation sees, when its operands see `field` along the axes `spatial`."""
    name, params = equation.primitive.name, equation.params
    shape, after = equation.invars[0].aval.shape, equation.outvars[0].aval.shape
    if name == "conv_general_dilated":
        if len(shape) != 4:
            return field
        kernel = equation.invars[1].aval.shape
        sizes = (
            (kernel[axis] - 1) * dilation + 1
            for axis, dilation in zip(
                params["dimension_numbers"].rhs_spec[2:], params["rhs_dilation"], strict=True
            )
        )
        windows = zip(sizes, params["window_strides"], (low for low, _ in params["padding"]), strict=True)
    elif len(shape) != 4:
        return field
    elif name.startswith("reduce_window"):
        sizes, strides, padding = (
            [params[name][axis] for axis in spatial]
            for name in ("window_dimensions", "window_strides", "padding")
        )
        windows = zip(sizes, strides, (low for low, _ in padding), strict=True)
    elif name == "pad":
        windows = ((1, 1, params["padding_config"][axis][0]) for axis in spatial)
    elif name == "slice":
        strides = params["strides"] or (1,) * 4
        windows = ((1, strides[axis], -params["start_indices"][axis]) for axis in spatial)
    elif name.startswith("reduce_") and "axes" in params:
        windows = ((shape[axis] if axis in params["axes"] else 1, 1, 0) for axis in spatial)
    elif len(after) < 4:
        windows = ((shape[axis], 1, 0) for axis in spatial)  # flattened: what follows sees the whole image
    else:
        return field
    return tuple(reach.window(*window) for reach, window in zip(field, windows, strict=True))


class Walk:
    """A walk over the equations in the order of the calls, gathering rows."""

    def __init__(self, params: Any, kinds: dict[Names, str]) -> None:
        self.params = params
        self.kinds = kinds
        self.parents = {path[:-1] for path in kinds if path}
        self.rows: list[Row] = []
        self.open: list[Row] = []
        self.parts: dict[Names, _Part] = {}
        self.counted: set[Names] = set()
        self.poolings: Counter[tuple[Names, str]] = Counter()
        self.spatial = (1, 2)  # until a convolution says otherwise

    def run(self, jaxpr: Any, fields: Iterable[Field | None], alive: set[int] | bool) -> list[Field | None]:
        """Fields of the results, given those of the arguments; None is what does not depend on the image."""
        known = dict(zip(jaxpr.invars, fields, strict=True))

        def read(variables: Iterable[Any]) -> list[Field | None]:
            return [None if isinstance(variable, Literal) else known.get(variable) for variable in variables]

        for position, equation in enumerate(jaxpr.eqns):
            operands = read(equation.invars)
            if any(operands):  # weights are no layers, nor is how they are drawn
                is_alive = alive if isinstance(alive, bool) else position in alive
                known.update(zip(equation.outvars, self.step(equation, operands, is_alive), strict=True))
        return read(jaxpr.outvars)

    def step(self, equation: Any, operands: list[Field | None], alive: bool) -> list[Field | None]:
        """The same for one equation."""
        field = _union(filter(None, operands))
        primitive, params, name = equation.primitive, equation.params, equation.primitive.name
        output = equation.outvars[0].aval.shape
        results = len(equation.outvars)
        if primitive is BEGIN:
            path = params["path"]
            self.open.append(Row(path, self.kinds[path], field))
            self.parts[path] = _Part(path, field, len(self.rows))
            return operands
        if primitive is END:
            self.end(params["path"], field, output, alive)
            return operands
        if primitive is TWIN:
            return [self.twin(params["path"], self.parts[params["twin"]], field, alive)] * results

        inner = next(iter(jaxprs_in_params(params)), None)
        if name == "scan":
            consts, carried = scan_counts(equation)
            for _ in range(params["length"]):
                ends = self.run(inner, operands, alive)
                operands = operands[:consts] + ends[:carried] + operands[consts + carried :]
            return ends
        if inner and not name.startswith(("reduce", "scatter")):
            if not params.get("name", "").endswith("_pool"):
                return self.run(inner, operands, alive)
            field = _union(filter(None, Walk({}, {}).run(inner, operands, alive)))
            assert operands[0]
            self.pooling(params["name"], equation, operands[0], field, alive)
            return [field] * results

        if name == "conv_general_dilated" and len(axes := params["dimension_numbers"].lhs_spec[2:]) == 2:
            self.spatial = axes
        before, field = field, _see(equation, field, self.spatial)
        if name in ("conv_general_dilated", "dot_general"):
            self.multiply(equation)
        elif name.startswith("reduce_") and self.open:
            self.pooling(_POOLINGS.get(name, "global_pool"), equation, before, field, alive)
        return [field] * results

    def end(self, path: Names, field: Field, output: tuple[int, ...], alive: bool) -> None:
        """A module's end: what it owns completes its row."""
        row, part = self.open.pop(), self.parts[path]
        own = self.params
        for name in path:
            own = own.get(name, {})
        sizes = {name: leaf.size for name, leaf in own.items() if not isinstance(leaf, dict)}
        if path not in self.counted:
            row.parameters = sum(sizes.values())
            self.counted.add(path)
        if row.connections and "bias" in sizes:
            row.connections += math.prod(output)
        row.field, row.output, row.alive = field, output, alive
        if sizes or row.connections:
            self.rows.append(row)
        part.rows, part.end = self.rows[part.first_row :], field

    def twin(self, path: Names, part: _Part, field: Field, alive: bool) -> Field:
        """The rows of a module's twin, moved to where the module is; returns what its output sees."""

        def moved(end: Field) -> Field:
            return tuple(reach.follow(*way) for reach, *way in zip(field, part.start, end, strict=True))

        for row in part.rows:
            name = path + row.path[len(part.path) :]
            parameters = 0 if name in self.counted else row.parameters
            self.counted.add(name)
            self.rows.append(
                dataclasses.replace(
                    row, path=name, field=moved(row.field), parameters=parameters, alive=alive
                )
            )
        return moved(part.end)

    def multiply(self, equation: Any) -> None:
        """A convolution or a product of matrices, in the module that it belongs to."""
        row, params = self.open[-1], equation.params
        left, right = (variable.aval.shape for variable in equation.invars)
        outputs = math.prod(equation.outvars[0].aval.shape)
        if equation.primitive.name == "dot_general":
            terms = math.prod(left[axis] for axis in params["dimension_numbers"][0][0])
        else:
            layout = params["dimension_numbers"].rhs_spec
            terms = math.prod(right[axis] for axis in layout[1:])
            kernel = shape_text(right[axis] for axis in layout[2:])
            detail = f" {kernel}" + _strided(params["window_strides"])
            if (groups := params["feature_group_count"]) > 1:
                detail += f", {groups} groups"
            if not row.kind.endswith(detail):
                row.kind += detail
        row.macs += outputs * terms
        row.connections += outputs * terms

    def pooling(self, op: str, equation: Any, before: Field, after: Field, alive: bool) -> None:
        """Pooling: part of a module that does nothing else, otherwise a row of its own."""
        steps = list(zip(before, after, strict=True))
        sizes = [1 + (b.high - b.low - a.high + a.low) // a.step for a, b in steps]
        output = equation.outvars[0].aval.shape
        inputs = equation.invars[0].aval.size if op == "global_pool" else math.prod((*output, *sizes))
        module = self.open[-1]
        if module.path not in self.parents:
            module.connections += inputs
        elif sizes != [1, 1]:
            self.poolings[module.path, op] += 1
            path = (*module.path, f"{op}{self.poolings[module.path, op]}")
            kind = f"{op.replace('_', ' ')} {shape_text(sizes)}" + _strided(
                [b.step // a.step for a, b in steps]
            )
            self.rows.append(Row(path, kind, after, output, connections=inputs, alive=alive))


def _strided(strides: Iterable[int]) -> str:
    distinct = sorted(set(strides))
    return "" if distinct == [1] else "/" + shape_text(distinct)


def shape_text(shape: Iterable[int]) -> str:
    """`32x32x3`."""
    return "x".join(map(str, shape))
