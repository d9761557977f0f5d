"""The summary of a network: its layers, their totals, and the text of both."""

import dataclasses
from numbers import Integral
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from cnnjax.counting import any_network
from cnnjax.counting.trace import rows
from cnnjax.counting.walk import Row, shape_text
from cnnjax.errors import UserError, short
from cnnjax.models import build
from cnnjax.probes.subject import as_subject
from cnnjax.terminal import Page, Printable, table

LARGEST = 2**15  # pixels a side: jax indexes the arrays of larger images by more than 32 bits


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
class Summary(Printable):
    """A network's layers in the order of their calls, and their totals; `str` is the table."""

    name: str
    input: tuple[int, ...]
    layers: tuple[Layer, ...]

    def __repr__(self) -> str:
        return (
            f"Summary of {self.name}, input {shape_text(self.input)}: {len(self.layers)} layers, "
            f"{self.parameters:,} parameters, {self.macs:,} multiply-adds; print it for the table"
        )

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

    def __rich__(self) -> Page:
        """The table."""
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
        return Page(title, "", table([*rows, total], head, "lllr", total=True))


def summary(
    network: Any, input: int | tuple[int, ...] | None = None, variables: Any = None, **fields: Any
) -> Summary:
    """Count a network layer by layer.

    Args:
        network: a name and `fields` as `build` takes them, a Linen module, or any network
            (`cnnjax.probes.subject`), whose layers are then those that probes find.
        input: side of a square image, or the shape of one input, such as [height, width, channel]; without
            it, the network's `input_shape`. Its type is that of the variables.
        variables: of a network that is not Linen's and does not carry them itself.

    Raises:
        UserError: the name or a field is unknown, the image does not fit, or a module does not say its input.
    """
    model: Any = build(network, **fields) if isinstance(network, str) else network
    name = network if isinstance(network, str) else _name(network)
    is_linen = isinstance(model, nn.Module)
    subject = None if is_linen else as_subject(model, variables)
    natural = getattr(model, "input_shape", None) if is_linen else None
    square = input is not None and not isinstance(input, tuple | list)
    shape: Any = (input, input, natural[2] if natural else 3) if square else input or natural
    if shape is None:
        raise UserError(f"{name} does not say its natural input: give input=(height, width, channel)")
    if not _is_shape(shape, dimensions=3 if is_linen else None):
        raise UserError(
            f"input={short(input)}: must be pixels a side or (height, width, channel), of 1 to {LARGEST}"
        )
    if subject is None:
        if hasattr(model, "convolution"):
            model = model.clone(convolution="native")  # the one that a trace shows
        found = rows(model, tuple(shape))
    else:
        found = any_network.rows(*subject, jax.ShapeDtypeStruct((2, *shape), _dtype(subject[1])))
    return Summary(name, tuple(shape), tuple(map(_layer, found)))


def _dtype(variables: Any) -> Any:
    """The floating-point type that all variables fit in, float32 if there are none: that of the inputs."""
    types = {leaf.dtype for leaf in jax.tree.leaves(variables) if hasattr(leaf, "dtype")}
    floating = [dtype for dtype in types if jnp.issubdtype(dtype, jnp.floating)]
    return jnp.result_type(*floating) if floating else jnp.float32


def _name(network: Any) -> str:
    """What a network that is an object is called."""
    if isinstance(network, tuple) and network:
        network = network[0]
    return getattr(network, "__name__", type(network).__name__)


def _is_shape(shape: Any, dimensions: int | None) -> bool:
    return (
        isinstance(shape, tuple | list)
        and dimensions in (None, len(shape))
        and all(isinstance(size, Integral) and 1 <= int(size) <= LARGEST for size in shape)
    )


def _layer(row: Row) -> Layer:
    return Layer(
        name="/".join(row.path) or row.kind,
        kind=row.kind if row.alive else f"{row.kind}, training only",
        output=row.output[1:],
        parameters=row.parameters,
        macs=row.macs if row.alive else 0,
        connections=row.connections if row.alive else 0,
        receptive_field=int(max(axis.high - axis.low + 1 for axis in row.field)),
        stride=max(axis.step for axis in row.field),
    )
