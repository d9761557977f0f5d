"""A compiled program as XLA prints it: its operations, how often each runs, what it reads and writes."""

import functools
import math
import re
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

_BYTES = {"pred": 1, "bf16": 2, "f16": 2, "token": 0, "opaque": 0}
_COMPUTATION = re.compile(r"(ENTRY )?%?([\w.$-]+) \(.*\{$")
_OPERATION = re.compile(r"\s+(?:ROOT )?%?([\w.$-]+) = (.*?) ([a-z][\w-]*)\((.*)")
_ARRAY = re.compile(r"\b([a-z]+\d*\w*)\[([\d,]*)\](\{[^}]*\})?")
_NAME = re.compile(r"%([\w.$-]+)")
_CALLED = re.compile(
    r"(?:calls|to_apply|body|condition|true_computation|false_computation)=%?([\w.$-]+)"
    r"|(?:branch_computations|called_computations)=\{([^}]*)\}"
)
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')
_CONTROL = {"while", "conditional", "call", "async-start"}
_FREE = _CONTROL | {
    "parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all", "partition-id",
    "replica-id", "async-done", "async-update", "opt-barrier",
}  # fmt: skip
_PICKING = {"gather", "dynamic-slice", "slice"}


class Array(NamedTuple):
    """An array in the device's memory, or in a faster one on its chip."""

    dtype: str
    shape: tuple[int, ...]
    on_chip: bool

    @property
    def bytes(self) -> int:
        """Without the padding of its tiles."""
        bits = re.search(r"\d+", self.dtype)
        size = _BYTES[self.dtype] if self.dtype in _BYTES else int(bits[0]) / 8 if bits else 0
        return int(size * math.prod(self.shape))


class Operation(NamedTuple):
    """One line of a computation."""

    name: str
    kind: str
    results: tuple[Array, ...]
    operands: tuple[str, ...]
    text: str
    """The line from its operands on."""

    @property
    def called(self) -> list[str]:
        """Names of the computations that it runs."""
        found = [name for one, several in _CALLED.findall(self.text) for name in (one, several) if name]
        return [name.strip().lstrip("%") for names in found for name in names.split(",")]

    @property
    def target(self) -> str:
        """What a custom call calls; empty for other operations."""
        match = re.search(r'custom_call_target="([^"]*)"', self.text)
        return match[1] if match else ""


class Program:
    """The computations in `compiled.as_text()`, each a list of operations."""

    def __init__(self, text: str):
        self.computations: dict[str, list[Operation]] = {}
        self.entry = ""
        for line in text.splitlines():
            if header := _COMPUTATION.match(line):
                self.computations[header[2]] = operations = []
                if header[1]:
                    self.entry = header[2]
            elif (match := _OPERATION.match(line)) and self.computations:
                name, results, kind, rest = match.groups()
                arrays = tuple(
                    Array(
                        dtype, tuple(int(size) for size in shape.split(",") if size), "S(" in (layout or "")
                    )
                    for dtype, shape, layout in _ARRAY.findall(results)
                )
                operations.append(Operation(name, kind, arrays, tuple(_operands(rest)), rest))

    @functools.cached_property
    def times(self) -> Counter[str]:
        """How often each computation runs, by name; both branches of a condition count."""
        times = Counter({self.entry: 1})
        for name in reversed(self.computations):  # XLA prints what is called before what calls it
            for operation in self.computations[name]:
                trips = _TRIPS.search(operation.text) if operation.kind == "while" else None
                for called in operation.called:
                    times[called] += times[name] * (int(trips[1]) if trips else 1)
        return times

    @functools.cached_property
    def controlling(self) -> set[str]:
        """The computations whose operations are launched one by one, not fused into one."""
        found, left = set(), [self.entry]
        while left:
            name = left.pop()
            if name not in found:
                found.add(name)
                left += [
                    called
                    for operation in self.computations.get(name, ())
                    if operation.kind in _CONTROL
                    for called in operation.called
                ]
        return found

    def launched(self) -> Iterator[tuple[Operation, int]]:
        """Each operation that a device launches, fusions as one, and how often."""
        for name in self.controlling:
            for operation in self.computations.get(name, ()):
                if operation.kind not in _FREE:
                    yield operation, self.times[name]

    def everything(self) -> Iterator[tuple[Operation, int]]:
        """Each operation, inside fusions too, and how often it runs."""
        for name, operations in self.computations.items():
            if self.times[name]:
                for operation in operations:
                    yield operation, self.times[name]

    def within(self, operation: Operation) -> Iterator[Operation]:
        """An operation, and those that are fused into it."""
        yield operation
        for called in operation.called:
            for inner in self.computations.get(called, ()):
                yield from self.within(inner)

    def bytes_accessed(self) -> int:
        """Bytes that launched operations read and write in the memory, each operand and result once."""
        results = {
            operation.name: operation.results
            for name in self.controlling
            for operation in self.computations.get(name, ())
        }
        return sum(times * self._moved(operation, results) for operation, times in self.launched())

    def _moved(self, operation: Operation, results: dict[str, tuple[Array, ...]]) -> int:
        if operation.kind.endswith(("-done", "-update")):  # what was started is counted there
            return 0
        written = _in_memory(operation.results)
        if operation.kind.endswith("-start"):  # its operands stand before its results
            return written
        picked = self._picked(operation)
        return written + sum(
            picked.get(number, _in_memory(results.get(operand, ())))
            for number, operand in enumerate(operation.operands)
        )

    def _picked(self, operation: Operation) -> dict[int, int]:
        """Operands of which only some elements are read, by position, and the bytes of those."""
        if operation.kind in _PICKING:
            return {0: _in_memory(operation.results)}
        found = {}
        for inner in self.computations.get(operation.called[0], ()) if operation.kind == "fusion" else ():
            if inner.kind == "parameter":
                fused = self.computations[operation.called[0]]
                users = [user for user in fused if inner.name in user.operands]
                if users and all(u.kind in _PICKING and u.operands[0] == inner.name for u in users):
                    found[int(inner.text.partition(")")[0])] = sum(_in_memory(u.results) for u in users)
        return found


def _in_memory(arrays: tuple[Array, ...]) -> int:
    return sum(array.bytes for array in arrays if not array.on_chip)


def _operands(rest: str) -> list[str]:
    depth = 1
    for position, letter in enumerate(rest):
        depth += (letter == "(") - (letter == ")")
        if depth == 0:
            return _NAME.findall(rest[:position])
    return _NAME.findall(rest)
