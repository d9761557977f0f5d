"""What is found in a trace, and what is recorded of it."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax

from cnnjax.probes.flow import Choice, Flow, Loop, Roots, Weight
from cnnjax.probes.response import Output

Record = dict[str, jax.Array]
"""Numbers by name; in loops, arrays over their iterations."""


class Measure(Protocol):
    """What is recorded, as scalars by name."""

    def layer(self, output: Output) -> Record:
        """Of a layer's output and response."""
        ...

    def join(self, stream: jax.Array, branch: jax.Array) -> Record:
        """Of what a residual block adds."""
        ...

    def over_devices(self, record: Record) -> Record:
        """The one record of arrays [device, ...] that stands for what devices recorded of their parts."""
        ...


class Kernel(NamedTuple):
    """A layer's weights as its operation takes them: their shape, and the axes along which units differ."""

    shape: tuple[int, ...]
    units: tuple[int, ...]


@dataclasses.dataclass(eq=False)
class Call:
    """A layer's place in the network.

    `place` orders calls; a loop in it stands for its iterations. A call is hidden if it is part of one that a
    mark makes a layer. `operand` is what the layer takes; `response_at` is the operation that completes its
    response, the bias and the normalisation included, and the operand is `replaceable` if it can be in the
    response's place.
    """

    number: int
    weight: Weight | Choice
    equation: Any
    place: tuple[int | Loop, ...]
    loops: tuple[Loop, ...] = ()
    tapped: bool = True
    hidden: bool = False
    units: tuple[int, ...] = ()
    kernel: Kernel | None = None
    unit_count: int = 0
    shape: tuple[int, ...] = ()
    scale: Weight | Choice | None = None
    bias: Weight | Choice | None = None
    activation: str = ""
    output: Output | None = None
    operand: tuple[Any, Flow] | None = None
    response_at: Any = None
    replaceable: bool = False
    record: Any = None


@dataclasses.dataclass(eq=False)
class Join:
    """Where a branch joins the stream; `calls` are the bits of the branch's own layers.

    In a plain net, whose blocks are marked, there is no shortcut.
    """

    calls: int
    place: tuple[int | Loop, ...]
    loops: tuple[Loop, ...] = ()
    shortcut: bool = True
    addends: tuple[jax.Array, jax.Array] | None = None
    record: Any = None


@dataclasses.dataclass
class Found:
    """What one traced function holds; it is filled whenever the function is traced."""

    calls: list[Call] = dataclasses.field(default_factory=list)
    joins: list[Join] = dataclasses.field(default_factory=list)
    flows: list[Flow] = dataclasses.field(default_factory=list)
    ties_samples: bool = False


class Ways:
    """The ways that values have come, across all functions of a trace."""

    def __init__(self) -> None:
        self.roots = Roots()
        self._operands: list[int] = []

    def number(self, operand: int) -> int:
        """A number for a call, of which the operand has this root."""
        self._operands.append(operand)
        return len(self._operands) - 1

    def operand(self, number: int) -> int:
        """The root of that call's operand."""
        return self._operands[number]

    def join(self, stream: Flow, branch: Flow) -> bool:
        """Whether the sum of the two is a join: the branch has passed more layers since the ways parted."""
        only_stream, only_branch = stream.calls & ~branch.calls, branch.calls & ~stream.calls
        if only_stream.bit_count() >= only_branch.bit_count():
            return False
        start = self._operands[first_of(only_stream)] if only_stream else stream.root
        return self.roots.is_ancestor(self._operands[first_of(only_branch)], start)


def first_of(calls: int) -> int:
    """The number of the first of these calls."""
    return (calls & -calls).bit_length() - 1


Records = tuple[list[Record], list[Record]]
"""Of the calls and of the joins of a traced function."""
AtJoin = Callable[[Any, Any, Any, Callable[[], Any]], tuple[Any, Any]]
"""What happens where a branch joins its stream: a function of the join's own argument, the stream, the branch
and `absent` to stream and branch as they are added. `absent()` is the value in the branch's place that makes
the sum what it would be without the block: 0 after a shortcut, and what makes the sum the block's input where
there is no shortcut (a plain net) or where the shortcut is shut as far as the branch is open (a highway)."""


class Taps(NamedTuple):
    """What layers and joins take besides their operands.

    Attributes:
        layers: a zero for each call, to differentiate by (`cnnjax.probes.taps.tap`); None taps nothing.
        joins: for each join its own argument for `AtJoin`; None leaves all as they are.
    """

    layers: list[jax.Array] | None
    joins: list[jax.Array] | None = None
