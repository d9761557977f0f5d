"""What the devices of a compiled program exchange, read from its HLO."""

import dataclasses
import math
import re

_BYTES = {"pred": 1, "s8": 1, "u8": 1, "bf16": 2, "f16": 2, "s32": 4, "u32": 4, "f32": 4, "s64": 8, "f64": 8}
_OPERATION = re.compile(
    r"= (?P<results>\S.*?) (?P<kind>all-reduce|all-gather|reduce-scatter|all-to-all|collective-permute)"
    r"(?P<begun>-start)?\((?P<rest>.*)"
)
_ARRAY = re.compile(r"\b([a-z]+\d*)\[([\d,]*)\]")
_AXES = re.compile(r"replica_groups=mesh\[([^\]]*)\] ?\{([^}]*)\}")
_GROUPS = re.compile(r"replica_groups=(?:\[\d+,(\d+)\]|\{\{([\d,]+)\})")


@dataclasses.dataclass
class Traffic:
    """All exchanges of one kind.

    Attributes:
        count: how many the program has; one inside a loop counts once.
        bytes: of their results, on each device.
        sent: bytes that each device sends for them, at least (in a ring).
    """

    count: int = 0
    bytes: int = 0
    sent: float = 0.0


def traffic(hlo: str) -> dict[str, Traffic]:
    """Count exchanges by kind, such as "all-reduce", in `compiled.as_text()`, except within one device."""
    found: dict[str, Traffic] = {}
    for operation in _OPERATION.finditer(hlo):
        kind, group = operation["kind"], _group_size(operation["rest"])
        if group == 1:
            continue
        sizes = [
            _BYTES[dtype] * math.prod(int(axis) for axis in shape.split(",") if axis)
            for dtype, shape in _ARRAY.findall(operation["results"])
            if dtype in _BYTES
        ]
        if operation["begun"] and kind != "all-reduce":  # its operands stand before its results
            sizes = sizes[len(sizes) // 2 :]
        size, others = sum(sizes), group - 1
        total = found.setdefault(kind, Traffic())
        total.count += 1
        total.bytes += size
        total.sent += {
            "all-reduce": 2 * size * others / group,
            "all-gather": size * others / group,
            "reduce-scatter": size * others,  # each of the others gets a result of this size
            "all-to-all": size * others / group,
            "collective-permute": size,
        }[kind]
    return found


def _group_size(rest: str) -> int:
    """How many devices exchange with each other."""
    if axes := _AXES.search(rest):
        sizes = dict(re.findall(r"'(\w+)'=(\d+)", axes[1]))
        return math.prod(int(sizes[name]) for name in re.findall(r"'(\w+)'", axes[2]))
    if groups := _GROUPS.search(rest):
        return int(groups[1]) if groups[1] else groups[2].count(",") + 1
    return 2  # pairs of a permutation
