"""What is known of a value in a network's trace: where it comes from, and along which axis its samples lie.

A value descends from the network's input, from parameters alone, or from neither. These facts follow from an
operation's operands; `follow` says how. Operations that it does not know keep what is safe to keep.
"""

import dataclasses
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

Names = tuple[str, ...]


@dataclasses.dataclass(frozen=True, eq=False)
class Loop:
    """A loop of the trace whose iterations count as calls of their own, such as `lax.scan`."""

    length: int
    reverse: bool = False

    def position(self, iteration: int) -> int:
        """When that iteration comes."""
        return self.length - 1 - iteration if self.reverse else iteration


@dataclasses.dataclass(frozen=True)
class Weight:
    """A parameter, or in a loop the slice of one that each iteration takes.

    Attributes:
        path: of the parameter in its tree.
        size: numbers in it.
        index: along its leading axes; a loop stands for its iteration.
    """

    path: Names
    size: int
    index: tuple[int | Loop, ...] = ()

    def at(self, iterations: dict[Loop, int]) -> "Weight":
        """The one of these iterations."""
        index = tuple(iterations[i] if isinstance(i, Loop) else i for i in self.index)
        return dataclasses.replace(self, index=index)


@dataclasses.dataclass(frozen=True)
class Choice:
    """In a loop over parameters that were stacked for it: another one in each iteration."""

    loop: Loop
    options: tuple["Weight | Choice", ...]

    @property
    def size(self) -> int:
        """Numbers in the first."""
        return self.options[0].size

    def at(self, iterations: dict[Loop, int]) -> Weight:
        """The one of these iterations."""
        return self.options[iterations[self.loop]].at(iterations)


Weights = tuple[Weight | Choice, ...]


@dataclasses.dataclass(frozen=True)
class Flow:
    """What is known of a value.

    Attributes:
        data: it depends on the network's input.
        weights: the parameters that it is made of, if it does not.
        carried: it is made of other arrays that the network brings, such as running averages.
        batch: the axis of the samples; its size is a multiple of their number, and they are its major part.
        calls: bits of the layers that lie on every way from the input to it.
        root: number of the value that it was made of since the last layer or sum (`Roots`).
        stacked: of a value that parameters were stacked to, what is known of its slices.
        taken: of a slice of length 1 along a parameter's first axis, where it begins.
        curve: what it is as a function of each number of that layer's response (`cnnjax.probes.activation`).
        role: what it is to the layer that it comes from by arithmetic alone (`cnnjax.probes.response`).
    """

    data: bool = False
    weights: Weights = ()
    carried: bool = False
    batch: int | None = None
    calls: int = 0
    root: int = dataclasses.field(default=0, compare=False)
    stacked: tuple["Flow", ...] = ()
    taken: int | None = None
    role: Any = dataclasses.field(default=None, compare=False)
    curve: Any = dataclasses.field(default=None, compare=False)


NOTHING = Flow()


def largest(weights: Sequence[Weight | Choice]) -> Weight | Choice:
    """The largest of the parameters that a kernel is made of: that which the others modify."""
    return max(weights, key=lambda weight: weight.size)


def follow(equation: Any, flows: Sequence[Flow], samples: int) -> list[Flow]:
    """What is known of an operation's results, but for their roles, from what is known of its operands."""
    name = equation.primitive.name
    data = any(flow.data for flow in flows)
    weights = () if data else _weights(equation, name, flows)
    flow = Flow(
        data=data,
        weights=weights,
        carried=any(flow.carried for flow in flows),
        calls=_calls(name, flows) if data else 0,
        stacked=() if data else _stacked(equation, name, flows),
        taken=_taken(equation) if name == "slice" and weights else None,
    )
    return [
        dataclasses.replace(
            flow,
            batch=_batch(equation, name, flows, result.aval, samples),
            weights=_entry(weights, number) if name == "unstack" and not equation.params["axis"] else weights,
        )
        for number, result in enumerate(equation.outvars)
    ]


def join(flows: Sequence[Flow]) -> Flow:
    """What is known of a value that is one of several, as after `cond`, or a loop's from start to end."""
    data = any(flow.data for flow in flows)
    batches = {flow.batch for flow in flows if flow.data}
    return Flow(
        data=data,
        weights=() if data else tuple(dict.fromkeys(weight for flow in flows for weight in flow.weights)),
        carried=any(flow.carried for flow in flows),
        batch=batches.pop() if len(batches) == 1 else None,
        calls=_common(flow.calls for flow in flows if flow.data),
    )


ALTERNATIVES = (
    "sub",
    "max",
    "min",
    "concatenate",
    "stack",
    "select_n",
    "dynamic_update_slice",
)
"""Operations whose result the input reaches by any one operand; by all of them, through the others."""


def _calls(name: str, flows: Sequence[Flow]) -> int:
    of_data = [flow.calls for flow in flows if flow.data]
    if name == "select_n" and len(of_data) > 1:
        of_data = [flow.calls for flow in flows[1:] if flow.data]
    if name in ALTERNATIVES:
        return _common(of_data)
    every = 0
    for calls in of_data:
        every |= calls
    return every


def _common(calls: Any) -> int:
    calls = list(calls)
    common = calls[0] if calls else 0
    for each in calls[1:]:
        common &= each
    return common


def _weights(equation: Any, name: str, flows: Sequence[Flow]) -> Weights:
    weights = tuple(dict.fromkeys(weight for flow in flows for weight in flow.weights))
    taken = flows[0].taken if name in ("squeeze", "reshape") else None
    if taken is None or equation.outvars[0].aval.shape != equation.invars[0].aval.shape[1:]:
        return weights
    return _entry(weights, taken)


def _entry(weights: Weights, number: int) -> Weights:
    """Of parameters, the entry of that number along the first axis."""
    return tuple(
        dataclasses.replace(weight, index=(*weight.index, number)) if isinstance(weight, Weight) else weight
        for weight in weights
    )


def _taken(equation: Any) -> int | None:
    """The first index of a slice that is one entry of the first axis, and all of the others."""
    before, after = equation.invars[0].aval.shape, equation.outvars[0].aval.shape
    one = after[:1] == (1,) and before[:1] != (1,) and before[1:] == after[1:]
    return int(equation.params["start_indices"][0]) if one else None


def _stacked(equation: Any, name: str, flows: Sequence[Flow]) -> tuple[Flow, ...]:
    """The slices along the first axis, if parameters were put side by side there."""
    if name == "stack" and equation.params["axis"] == 0:
        return tuple(flows)
    if name == "concatenate" and equation.params["dimension"] == 0:
        lengths = (operand.aval.shape[0] for operand in equation.invars)
        return tuple(flow for flow, length in zip(flows, lengths, strict=True) for _ in range(length))
    kept = [flow.stacked for flow in flows if flow.stacked]
    result = equation.outvars[0].aval
    same = len(kept) == 1 and getattr(result, "shape", ()) and result.shape[0] == len(kept[0])
    return kept[0] if same and name in ("convert_element_type", "copy", "mul", "sharding_constraint") else ()


class Roots:
    """Which values the others are made of, by numbers, for the question where two ways have parted.

    A layer's result is a root. So is what is made of several roots, its ancestors, or of a part of one.
    """

    def __init__(self) -> None:
        self._ancestors = [1]  # bits, by number; the input is 0

    def new(self, parents: Iterable[int] = ()) -> int:
        """The number of a new root."""
        number, ancestors = len(self._ancestors), 0
        for parent in parents:
            ancestors |= self._ancestors[parent]
        self._ancestors.append(ancestors | 1 << number)
        return number

    def is_ancestor(self, one: int, other: int) -> bool:
        """Whether `other` is made of `one`, or is the same."""
        return bool(self._ancestors[other] >> one & 1)

    def after(self, name: str, flows: Sequence[Flow]) -> int:
        """The root of an operation's result."""
        roots = {flow.root for flow in flows if flow.data}
        is_part = name in ("slice", "dynamic_slice", "gather", "split", "unstack")
        return roots.pop() if len(roots) == 1 and not is_part else self.new(roots)


def sums_over_samples(equation: Any, flows: Sequence[Flow]) -> bool:
    """Whether an operation sums over the samples, or takes their maximum, or products of their pairs."""
    name, params = equation.primitive.name, equation.params
    if name == "dot_general":
        contracted, shared = params["dimension_numbers"]
        if any(flow.batch in axes for flow, axes in zip(flows, contracted, strict=True)):
            return True
        return all(
            flow.batch is not None and flow.batch not in axes
            for flow, axes in zip(flows, shared, strict=True)
        )
    sums = name.startswith("reduce_") or name in _COLLECTIVE
    return sums and "axes" in params and flows[0].batch in params["axes"]


def moved(equation: Any, axis: int) -> int | None:
    """Where an operation's first operand's axis is in its result, if it is there as a whole."""
    before, after = equation.invars[0].aval.shape, equation.outvars[0].aval.shape
    return _MOVES.get(equation.primitive.name, _same)(equation, 0, axis, before, after)


def _batch(equation: Any, name: str, flows: Sequence[Flow], result: Any, samples: int) -> int | None:
    shape = getattr(result, "shape", ())
    for number, (operand, flow) in enumerate(zip(equation.invars, flows, strict=True)):
        if flow.batch is None:
            continue
        axis = _MOVES.get(name, _same)(equation, number, flow.batch, operand.aval.shape, shape)
        if axis is not None and axis < len(shape) and shape[axis] and shape[axis] % samples == 0:
            return axis
    return None


def _same(equation: Any, number: int, axis: int, before: tuple, after: tuple) -> int | None:
    """Where the samples are after an operation that leaves the axes where they are."""
    return axis if axis < len(after) and before[axis] == after[axis] else None


def _transpose(equation: Any, number: int, axis: int, before: tuple, after: tuple) -> int | None:
    return equation.params["permutation"].index(axis)


def _broadcast(equation: Any, number: int, axis: int, before: tuple, after: tuple) -> int | None:
    return equation.params["broadcast_dimensions"][axis]


def _reduce(equation: Any, number: int, axis: int, before: tuple, after: tuple) -> int | None:
    axes = [
        other for other in equation.params["axes"] if not isinstance(other, str)
    ]  # names are of `shard_map`
    return None if axis in axes else axis - sum(other < axis for other in axes)


def _squeeze(equation: Any, number: int, axis: int, before: tuple, after: tuple) -> int | None:
    return axis - sum(other < axis for other in equation.params["dimensions"])


def _unstack(equation: Any, number: int, axis: int, before: tuple, after: tuple) -> int | None:
    along = equation.params["axis"]
    return None if axis == along else axis - (along < axis)


def _stack(equation: Any, number: int, axis: int, before: tuple, after: tuple) -> int | None:
    return axis + (equation.params["axis"] <= axis)


def _reshape(equation: Any, number: int, axis: int, before: tuple, after: tuple) -> int | None:
    """The axis that begins where the samples' does; with axes before it of the same number of entries."""
    entries = math.prod(before[:axis])
    begin_there = [place for place in range(len(after)) if math.prod(after[:place]) == entries]
    same = [place for place in begin_there if after[place] == before[axis]]
    larger = [place for place in begin_there if after[place] != 1]
    return next(iter(same or larger), None)


def _dot(equation: Any, number: int, axis: int, before: tuple, after: tuple) -> int | None:
    (contracted, batched) = equation.params["dimension_numbers"]
    if axis in contracted[number]:
        return None
    if axis in batched[number]:
        return list(batched[number]).index(axis)
    free = [d for d in range(len(before)) if d not in contracted[number] and d not in batched[number]]
    first = len(batched[0])
    if number == 1:
        left = equation.invars[0].aval.ndim
        first += left - len(contracted[0]) - len(batched[0])
    return first + free.index(axis)


def _conv(equation: Any, number: int, axis: int, before: tuple, after: tuple) -> int | None:
    numbers = equation.params["dimension_numbers"]
    return numbers.out_spec[0] if number == 0 and axis == numbers.lhs_spec[0] else None


def _gather(equation: Any, number: int, axis: int, before: tuple, after: tuple) -> int | None:
    if number != 1:
        return _same(equation, number, axis, before, after)
    free = [d for d in range(len(after)) if d not in equation.params["dimension_numbers"].offset_dims]
    return free[axis] if axis < len(free) else None


_COLLECTIVE = ("psum", "pmax", "pmin")
"""Sums over a named axis, which `vmap` has replaced by one of the array's, by its number."""
_MOVES: dict[str, Callable[[Any, int, int, tuple, tuple], int | None]] = {
    "transpose": _transpose,
    "broadcast_in_dim": _broadcast,
    "squeeze": _squeeze,
    "stack": _stack,
    "unstack": _unstack,
    "reshape": _reshape,
    "dot_general": _dot,
    "conv_general_dilated": _conv,
    "gather": _gather,
    **{f"reduce_{of}": _reduce for of in ("sum", "max", "min", "prod", "and", "or", "moments")},
    **dict.fromkeys(_COLLECTIVE, _reduce),
    "argmax": _reduce,
    "argmin": _reduce,
}
