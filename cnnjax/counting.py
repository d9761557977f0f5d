"""What a network costs and sees, layer by layer, from its trace: nothing is computed, nothing is tabulated.

The network is traced once, abstractly, as `init` runs it. A module that equals one before it, but for its
name, is not traced again: its rows are those of its twin. So a thousand blocks cost little more than two.

Counts are the papers': parameters are the trainable ones, multiply-adds those of convolutions and dense
layers for one image. Connections are LeCun et al.'s (1998, section II.B): every unit's inputs, its bias
included, for convolutions, dense layers and pooling. An output's receptive field is the square of pixels that
it can depend on, along the longest path: a window of k pixels whose inputs are j pixels apart adds (k - 1) j,
and its stride multiplies j, the total stride. Beyond the image's border it counts on.
"""

import contextlib
import dataclasses
import gc
import inspect
import math
from collections import Counter
from collections.abc import Callable, Container, Iterable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.extend.core import Literal, Primitive, get_opaque_trace_state, jaxprs_in_params

from cnnjax.errors import UserError
from cnnjax.models import build


@dataclasses.dataclass(frozen=True)
class Layer:
    """A row of the summary: a module with weights, or pooling."""

    name: str
    kind: str
    output: tuple[int, ...]
    """Shape for one image, without the batch: [height, width, channel] or [channel]."""
    parameters: int
    macs: int
    """Multiply-adds for one image; none in a layer that serves training only."""
    connections: int
    receptive_field: int
    """In pixels, the longer side."""
    stride: int
    """Pixels between neighbouring outputs."""


@dataclasses.dataclass(frozen=True)
class Summary:
    """A network's layers in the order of their calls, and their totals; `str` is the table."""

    name: str
    input: tuple[int, ...]
    layers: tuple[Layer, ...]

    @property
    def parameters(self) -> int:
        """Trainable parameters."""
        return sum(layer.parameters for layer in self.layers)

    @property
    def macs(self) -> int:
        """Multiply-adds of convolutions and dense layers for one image."""
        return sum(layer.macs for layer in self.layers)

    @property
    def connections(self) -> int:
        """Inputs of all units of convolutions, dense layers and pooling, biases included."""
        return sum(layer.connections for layer in self.layers)

    @property
    def receptive_field(self) -> int:
        """The largest of a layer that still is a map, in pixels."""
        maps = [layer for layer in self.layers if len(layer.output) == 3] or self.layers
        return max(layer.receptive_field for layer in maps)

    def __str__(self) -> str:
        head = ("layer", "kind", "output", "parameters", "multiply-adds", "connections", "field", "stride")
        rows = [
            (
                layer.name, layer.kind, shape_text(layer.output), f"{layer.parameters:,}", f"{layer.macs:,}",
                f"{layer.connections:,}", str(layer.receptive_field), str(layer.stride),
            )
            for layer in self.layers
        ]  # fmt: skip
        totals = (f"{total:,}" for total in (self.parameters, self.macs, self.connections))
        total = ("total", "", "", *totals, "", "")
        title = f"{self.name}, input {shape_text(self.input)}"
        return "\n".join([title, "", *table([head, *rows, total], left=3, ruled=(0, len(rows)))])


def summary(
    network: str | nn.Module, input: int | tuple[int, int, int] | None = None, **fields: Any
) -> Summary:
    """Count a network layer by layer.

    Args:
        network: a name and `fields` as `build` takes them, or a module.
        input: side of a square image, or [height, width, channel]; without it, the network's `input_shape`.

    Raises:
        UserError: the name or a field is unknown, the image does not fit, or a module does not say its input.
    """
    model = build(network, **fields) if isinstance(network, str) else network
    name = network if isinstance(network, str) else type(network).__name__
    natural = getattr(model, "input_shape", None)
    shape = (input, input, natural[2] if natural else 3) if isinstance(input, int) else input or natural
    if shape is None:
        raise UserError(f"{name} does not say its natural input: give input=(height, width, channel)")
    if hasattr(model, "convolution"):
        model = model.clone(convolution="native")  # the one that a trace shows
    return Summary(name, tuple(shape), _count(model, tuple(shape)))


def shape_text(shape: Iterable[int]) -> str:
    """`32x32x3`."""
    return "x".join(map(str, shape))


def table(rows: list[tuple[str, ...]], left: int, ruled: Container[int]) -> list[str]:
    """Lines of aligned columns, the first `left` of them to the left, with a rule after the rows `ruled`."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for index, row in enumerate(rows):
        cells = [f"{cell:{'<' if i < left else '>'}{widths[i]}}" for i, cell in enumerate(row)]
        lines.append("  ".join(cells).rstrip())
        if index in ruled:
            lines.append("-" * (sum(widths) + 2 * (len(widths) - 1)))
    return lines


# Marks in the trace: where a module begins, where it ends, and where one stands for its twin.
_BEGIN, _END, _TWIN = (Primitive(f"module_{mark}") for mark in ("begin", "end", "twin"))
for _mark in (_BEGIN, _END, _TWIN):
    _mark.multiple_results = True
    _mark.def_abstract_eval(lambda *values, results=None, **_: values if results is None else results)

_POOLINGS = {"reduce_window_max": "max_pool", "reduce_window_sum": "average_pool"}
Path = tuple[str, ...]


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
class _Row:
    """What the equations of one module, or of one pooling, add up to."""

    path: Path
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

    path: Path
    start: Field
    first_row: int
    rows: list[_Row] = dataclasses.field(default_factory=list)
    end: Field = ()


def _count(model: nn.Module, image: tuple[int, ...]) -> tuple[Layer, ...]:
    kinds: dict[Path, str] = {}
    twins: dict[Any, tuple[Path, Any, Any]] = {}

    def mark(call: Callable, args: tuple, kwargs: dict, context: Any) -> Any:
        module, path = context.module, context.module.path
        if context.method_name != "__call__":
            return call(*args, **kwargs)
        kinds.setdefault(path, type(module).__name__)
        key = _identity(module, args, kwargs)
        trace = get_opaque_trace_state(convention="flax")
        twin, result, where = twins.get(key, ((), None, None))
        if where == trace:  # a trace within, of a loop's body, may be thrown away with all twins in it
            leaves, tree = jax.tree.flatten(result)
            return tree.unflatten(_TWIN.bind(*args, path=path, twin=twin, results=tuple(leaves)))
        inputs = [arg for arg in args if isinstance(arg, jax.Array)]
        marked = iter(_BEGIN.bind(*inputs, path=path))
        result = call(*(next(marked) if isinstance(arg, jax.Array) else arg for arg in args), **kwargs)
        if key is not None:
            twins[key] = path, jax.tree.map(jax.typeof, result), trace
        leaves, tree = jax.tree.flatten(result)
        return tree.unflatten(_END.bind(*leaves, path=path))

    train: Any = {"train": False} if "train" in inspect.signature(type(model).__call__).parameters else {}

    def initialise(key: jax.Array, images: jax.Array) -> Any:
        with nn.intercept_methods(mark):
            return model.init_with_output(key, images, **train)

    inputs = jax.eval_shape(lambda: (jax.random.key(0), jnp.zeros((1, *image))))
    with _without_collection():
        jaxpr, (_, variables) = jax.make_jaxpr(initialise, return_shape=True)(*inputs)
    walk = _Walk(variables.get("params", {}), kinds)
    start = (Reach(0, 0, 1),) * 2
    walk.run(jaxpr.jaxpr, [None, start], alive=_needed(jaxpr.jaxpr))
    return tuple(
        Layer(
            name="/".join(row.path) or row.kind,
            kind=row.kind if row.alive else f"{row.kind}, training only",
            output=row.output[1:],
            parameters=row.parameters,
            macs=row.macs if row.alive else 0,
            connections=row.connections if row.alive else 0,
            receptive_field=int(max(axis.high - axis.low + 1 for axis in row.field)),
            stride=max(axis.step for axis in row.field),
        )
        for row in walk.rows
    )


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


def _union(fields: Iterable[Field]) -> Field:
    axes = (zip(*reaches, strict=True) for reaches in zip(*fields, strict=True))
    return tuple(Reach(min(low), max(high), max(step)) for low, high, step in axes)


def _see(equation: Any, field: Field) -> Field:
    """What the result of one operation sees, when its operands see `field`."""
    name, params = equation.primitive.name, equation.params
    shape = equation.invars[0].aval.shape
    if name == "conv_general_dilated":
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
        lows = (low for low, _ in params["padding"][1:3])
        windows = zip(params["window_dimensions"][1:3], params["window_strides"][1:3], lows, strict=True)
    elif name == "pad":
        windows = ((1, 1, low) for low, _, _ in params["padding_config"][1:3])
    elif name == "slice":
        strides = params["strides"] or (1,) * 4
        windows = zip((1, 1), strides[1:3], (-first for first in params["start_indices"][1:3]), strict=True)
    elif name.startswith("reduce_") and "axes" in params:
        windows = ((shape[axis] if axis in params["axes"] else 1, 1, 0) for axis in (1, 2))
    elif equation.outvars[0].aval.shape[1:3] != shape[1:3]:  # flattened: what follows sees the whole image
        windows = ((shape[axis], 1, 0) for axis in (1, 2))
    else:
        return field
    return tuple(reach.window(*window) for reach, window in zip(field, windows, strict=True))


class _Walk:
    """A walk over the equations in the order of the calls, gathering rows."""

    def __init__(self, params: Any, kinds: dict[Path, str]) -> None:
        self.params = params
        self.kinds = kinds
        self.parents = {path[:-1] for path in kinds if path}
        self.rows: list[_Row] = []
        self.open: list[_Row] = []
        self.parts: dict[Path, _Part] = {}
        self.counted: set[Path] = set()
        self.poolings: Counter[tuple[Path, str]] = Counter()

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
        if primitive is _BEGIN:
            path = params["path"]
            self.open.append(_Row(path, self.kinds[path], field))
            self.parts[path] = _Part(path, field, len(self.rows))
            return operands
        if primitive is _END:
            self.end(params["path"], field, output, alive)
            return operands
        if primitive is _TWIN:
            return [self.twin(params["path"], self.parts[params["twin"]], field, alive)] * results

        inner = next(iter(jaxprs_in_params(params)), None)
        if name == "scan":
            consts, carried = params["num_consts"], params["num_carry"]
            for _ in range(params["length"]):
                ends = self.run(inner, operands, alive)
                operands = operands[:consts] + ends[:carried] + operands[consts + carried :]
            return ends
        if inner and not name.startswith(("reduce", "scatter")):
            if not params.get("name", "").endswith("_pool"):
                return self.run(inner, operands, alive)
            field = _union(filter(None, _Walk({}, {}).run(inner, operands, alive)))
            assert operands[0]
            self.pooling(params["name"], equation, operands[0], field, alive)
            return [field] * results

        before, field = field, _see(equation, field)
        if name in ("conv_general_dilated", "dot_general"):
            self.multiply(equation)
        elif name.startswith("reduce_") and self.open:
            self.pooling(_POOLINGS.get(name, "global_pool"), equation, before, field, alive)
        return [field] * results

    def end(self, path: Path, field: Field, output: tuple[int, ...], alive: bool) -> None:
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

    def twin(self, path: Path, part: _Part, field: Field, alive: bool) -> Field:
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
            self.rows.append(_Row(path, kind, after, output, connections=inputs, alive=alive))


def _strided(strides: Iterable[int]) -> str:
    distinct = sorted(set(strides))
    return "" if distinct == [1] else "/" + shape_text(distinct)
