"""What the devices of a compiled program exchange, read off its HLO."""

import dataclasses
import math
import re

from cnnjax.counting.hlo import Operation, Program

KINDS = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")
_CHANNEL = re.compile(r"channel_id=(\d+)")
_AXES = re.compile(r"replica_groups=mesh\[([^\]]*)\] ?\{([^}]*)\}")
_GROUPS = re.compile(r"replica_groups=(?:\[\d+,(\d+)\]|\{\{([\d,]+)\})")


@dataclasses.dataclass
class Exchange:
    """All exchanges of one kind.

    Attributes:
        count: how many a device takes part in; one inside a loop counts as often as the loop runs.
        bytes: of their results, on each device.
        sent: bytes that each device sends for them, at least (in a ring).
    """

    count: int = 0
    bytes: int = 0
    sent: float = 0.0


def exchanges(program: Program) -> dict[str, Exchange]:
    """Exchanges by kind, such as "all-reduce"; those among one device are none."""
    found: dict[str, Exchange] = {}
    seen = set()
    for operation, times in program.everything():
        kind = operation.kind.removesuffix("-start")
        channel = _CHANNEL.search(operation.text)
        # TPUs have parts of one exchange, all of its shape and channel, in several fusions.
        if kind not in KINDS or (channel and (kind, channel[1]) in seen):
            continue
        if channel:
            seen.add((kind, channel[1]))
        group = _group_size(operation.text)
        if group > 1:
            total = found.setdefault(kind, Exchange())
            size = _result_bytes(operation)
            total.count += times
            total.bytes += times * size
            total.sent += times * _sent(kind, size, group)
    return found


def _result_bytes(operation: Operation) -> int:
    sizes = [array.bytes for array in operation.results]
    if operation.kind.endswith("-start") and not operation.kind.startswith("all-reduce"):
        sizes = sizes[len(sizes) // 2 :]  # its operands stand before its results
    return sum(sizes)


def _sent(kind: str, size: int, group: int) -> float:
    others = group - 1
    return {
        "all-reduce": 2 * size * others / group,
        "all-gather": size * others / group,
        "reduce-scatter": size * others,  # each of the others gets a result of this size
        "all-to-all": size * others / group,
        "collective-permute": size,
    }[kind]


def _group_size(text: str) -> int:
    """How many devices exchange with each other."""
    if axes := _AXES.search(text):
        sizes = dict(re.findall(r"'(\w+)'=(\d+)", axes[1]))
        return math.prod(int(sizes[name]) for name in re.findall(r"'(\w+)'", axes[2]))
    if groups := _GROUPS.search(text):
        return int(groups[1]) if groups[1] else groups[2].count(",") + 1
    return 2  # pairs of a permutation
