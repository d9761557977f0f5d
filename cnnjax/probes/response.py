"""What becomes of a layer's output by arithmetic that treats all units alike: its bias, its normalisation.

A layer's output z is followed through additions and multiplications by parameters, constants, and statistics
of z itself: its mean, its variance, whatever was summed up from it. The last value on that way is the layer's
response, if a statistic or a running average has scaled it: then this was a normalisation of some kind.
Anything else ends the way: an activation, another layer, a sum with another value.

Where every unit has one gain and one offset, as in BatchNorm, both are computed along the way. Then moments
of the response follow from those of z.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from cnnjax.ops.precision import wide
from cnnjax.ops.sums import MOMENTS, SCALE_SHIFT
from cnnjax.probes.flow import Flow, Weights, largest, moved

Number = Any
"""A number, or an array that broadcasts to z and has one for each unit."""


@dataclasses.dataclass(eq=False)
class Output:
    """A layer's output z, and its response as far as it is known.

    Attributes:
        z: the output, with its bias.
        response: z, or what a normalisation made of it.
        units: the axes that the layer's weights give; its channels.
        batch: the axis of the samples (`cnnjax.probes.flow.Flow`), if there is one.
        samples: how many there are.
        gain: response = gain * (z - centre) + offset, if each unit has one of each; else None.
        offset: see above.
        centre: see above.
        scale: the parameters that a normalisation multiplies by.
        bias: the parameters that were added to each unit of z.
        normalized: whether one was found.
        curve: what the next activation makes of the response (`cnnjax.probes.activation`).
    """

    z: jax.Array
    response: jax.Array
    units: tuple[int, ...]
    batch: int | None
    samples: int
    gain: Number = 1.0
    offset: Number = 0.0
    centre: Number = 0.0
    scale: Weights = ()
    bias: Weights = ()
    normalized: bool = False
    curve: Any = None

    def constant(self) -> "Output":
        """The same for derivatives, which do not look at what is recorded."""
        names = ("z", "response", "gain", "offset", "centre")
        values = jax.lax.stop_gradient([getattr(self, name) for name in names])
        return dataclasses.replace(self, **dict(zip(names, values, strict=True)))

    @property
    def shape(self) -> tuple[int, ...]:
        """Of z for one sample."""
        sizes = list(jnp.shape(self.z))
        if self.batch is not None:
            sizes[self.batch] //= self.samples
            if sizes[self.batch] == 1:
                del sizes[self.batch]
        return tuple(sizes)

    @property
    def of_units(self) -> tuple[jax.Array, jax.Array, jax.Array] | None:
        """Centre, gain and offset, each [*units]; None unless each unit has one of each."""
        others = tuple(axis for axis in range(self.z.ndim) if axis not in self.units)
        sizes, dtype = tuple(self.z.shape[axis] for axis in self.units), wide(self.z.dtype)
        numbers = self.centre, self.gain, self.offset
        if any(number is None for number in numbers):
            return None
        centre, gain, offset = (
            jnp.broadcast_to(jnp.squeeze(number, others) if jnp.ndim(number) else number, sizes).astype(dtype)
            for number in numbers
        )
        return centre, gain, offset

    @property
    def number_of_units(self) -> int:
        """How many outputs have weights of their own."""
        return math.prod(jnp.shape(self.z)[axis] for axis in self.units)

    def number(self, value: Any) -> Number:
        """`value` if it is one number, or one for each unit; else None."""
        if jnp.ndim(value) == 0:
            return value
        if jnp.ndim(value) == self.z.ndim and all(
            size == 1 or axis in self.units for axis, size in enumerate(jnp.shape(value))
        ):
            return value
        return None


@dataclasses.dataclass(frozen=True)
class Image:
    """z itself, or what was made of it so far."""

    output: Output
    gain: Number = 1.0
    offset: Number = 0.0
    centre: Number = 0.0
    scale: Weights = ()
    normalized: bool = False
    is_z: bool = True


@dataclasses.dataclass(frozen=True)
class Power:
    """Something that is computed of z at each place, on the way to a statistic."""

    output: Output


@dataclasses.dataclass(frozen=True)
class Statistic:
    """What was summed up from z, and what was made of that with parameters and constants."""

    output: Output
    scale: Weights = ()


MOVES = ("reshape", "broadcast_in_dim", "squeeze", "transpose", "expand_dims")
KEEPS = (
    "convert_element_type", "copy", "sharding_constraint", "optimization_barrier", "reduce_precision",
    "pvary", "pbroadcast", "name", "mark", "stop_gradient",
)  # fmt: skip
SUMS = (
    "reduce_sum",
    "reduce_max",
    "reduce_min",
    "reduce_prod",
    "reduce_window_sum",
    "psum",
    "psum_invariant",
    "pmean",
    MOMENTS,
)
AT_EACH_PLACE = (
    "add", "sub", "mul", "div", "max", "min", "neg", "abs", "square", "integer_pow", "pow", "sqrt", "rsqrt",
    "exp", "log", "select_n",
)  # fmt: skip


def follow(equation: Any, values: Sequence[Any], flows: Sequence[Flow], results: Sequence[Any]) -> Any:
    """The role of an operation's first result; what it says of a layer's response is noted there."""
    name = equation.primitive.name
    roles = [flow.role for flow in flows]
    outputs = {id(role.output): role.output for role in roles if role is not None}
    strangers = any(flow.data and role is None for flow, role in zip(flows, roles, strict=True))
    if len(outputs) != 1 or strangers:
        return None
    (output,) = outputs.values()
    if all(isinstance(role, Statistic) for role in roles if role is not None):
        known = name in AT_EACH_PLACE + MOVES + KEEPS + SUMS
        return Statistic(output, _scales(name, roles, flows)) if known else None
    if name in SUMS:
        return Statistic(output)
    images = [number for number, role in enumerate(roles) if isinstance(role, Image)]
    if len(images) == 1 and not any(isinstance(role, Power) for role in roles):
        number = images[0]
        if roles[number].is_z and _is_z(equation, output, number, values, flows, results[0]):
            return Image(output)
        image = _image(name, values, flows, number)
        if image is not None:
            _note(image, results[0], name, flows)
            return image
    return Power(output) if name in AT_EACH_PLACE + MOVES + KEEPS else None


def _is_z(
    equation: Any, output: Output, number: int, values: Sequence[Any], flows: Sequence[Flow], result: Any
) -> bool:
    """Whether the result still is the layer's output: with its bias, or with its axes in another order."""
    name = equation.primitive.name
    if name in KEEPS:
        return True
    if name == "add":
        other = flows[1 - number]
        bias = other.weights and largest(other.weights).size == output.number_of_units
        if not bias or jnp.shape(result) != jnp.shape(output.z):
            return False
        output.bias = other.weights
    elif name in MOVES:
        before, after = jnp.shape(output.z), jnp.shape(result)
        axes = [*output.units, *([] if output.batch is None else [output.batch])]
        moves = {axis: moved(equation, axis) for axis in axes}
        if any(to is None or to >= len(after) or after[to] != before[axis] for axis, to in moves.items()):
            return False
        output.units = tuple(moves[axis] for axis in output.units)  # pyright: ignore
        output.batch = None if output.batch is None else moves[output.batch]
    else:
        return False
    output.z = output.response = result
    return True


def _scales(name: str, roles: Sequence[Any], flows: Sequence[Flow]) -> Weights:
    """The parameters by which a statistic has been multiplied."""
    own = tuple(weight for role in roles if isinstance(role, Statistic) for weight in role.scale)
    if name not in ("mul", "div"):
        return own
    return own + tuple(
        w for role, flow in zip(roles, flows, strict=True) if role is None for w in flow.weights
    )


def _image(name: str, values: Sequence[Any], flows: Sequence[Flow], number: int) -> Image | None:
    """What z became by this operation; None if that is no longer the arithmetic of the docstring above."""
    image: Image = flows[number].role
    if name in MOVES:
        return dataclasses.replace(image, gain=None, offset=None, is_z=False)
    image = dataclasses.replace(image, is_z=False)
    if name in KEEPS:
        return image
    if name == SCALE_SHIFT:
        return _scaled_and_shifted(image, values, flows) if number == 0 else None
    if name == "neg":
        return dataclasses.replace(image, gain=_times(image.gain, -1), offset=_times(image.offset, -1))
    if name not in ("add", "sub", "mul", "div") or (name == "div" and number == 1):
        return None
    other = flows[1 - number]
    by = image.output.number(values[1 - number])
    if name in ("add", "sub"):
        gain, offset = image.gain, _plus(image.offset, by if name == "add" else _times(by, -1))
        if name == "sub" and number == 1:
            gain, offset = _times(image.gain, -1), _plus(_times(image.offset, -1), by)
        return dataclasses.replace(image, gain=gain, offset=offset)
    return _multiplied(image, by if name == "mul" or by is None else 1 / by, other)


def _scaled_and_shifted(image: Image, values: Sequence[Any], flows: Sequence[Flow]) -> Image:
    """What z becomes by `cnnjax.ops.sums.scale_shift`, whose numbers are those of the last axis."""
    centre, gain, offset = (image.output.number(_like(value, values[0])) for value in values[1:])
    if flows[0].role.is_z:
        image = dataclasses.replace(image, centre=centre)
    else:
        image = dataclasses.replace(image, offset=_plus(image.offset, _times(centre, -1)))
    image = _multiplied(image, gain, flows[2])
    return dataclasses.replace(image, offset=_plus(image.offset, offset))


def _multiplied(image: Image, factor: Number, flow: Flow) -> Image:
    """`image` times a number, of which `flow` is known."""
    statistic = flow.role if isinstance(flow.role, Statistic) else None
    return dataclasses.replace(
        image,
        gain=_times(image.gain, factor),
        offset=_times(image.offset, factor),
        scale=image.scale + (statistic.scale if statistic else flow.weights),
        normalized=image.normalized or statistic is not None or flow.carried,
    )


def _like(numbers: Any, x: Any) -> Any:
    """[channel], or [group, channel], with as many axes as `x` [group, ..., channel]."""
    return jnp.reshape(numbers, (*jnp.shape(numbers)[:-1], *(1,) * (jnp.ndim(x) - jnp.ndim(numbers)), -1))


def _note(image: Image, value: Any, name: str, flows: Sequence[Flow]) -> None:
    output = image.output
    if jnp.shape(value) != jnp.shape(output.z):
        return
    if image.normalized:
        output.response, output.centre = value, image.centre
        output.gain, output.offset = image.gain, image.offset
        output.scale, output.normalized = image.scale, True


def _times(x: Number, y: Number) -> Number:
    return None if x is None or y is None else x * y


def _plus(x: Number, y: Number) -> Number:
    return None if x is None or y is None else x + y
