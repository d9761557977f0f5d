"""The variants of He et al. 2016 and what they published, from tables 1 and 2."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

FAIL = math.inf
"""In table 1 an error above 20 %, which is not printed."""
DEPTHS = (110, 164)
"""Of the published networks: 54 blocks of two convolutions, and 54 of three."""


@dataclasses.dataclass(frozen=True)
class Variant:
    """A network with other shortcuts or another order of layers.

    Attributes:
        name: in files and results.
        title: in figures and tables.
        options: fields of the network that differ from the original's.
        published: test error on CIFAR-10 in percent, the median of 5 runs, by depth; `FAIL` for "fail".
        model: pattern of the network's name.
    """

    name: str
    title: str
    options: Mapping[str, Any]
    published: Mapping[int, float] = dataclasses.field(default_factory=dict)
    model: str = "resnet{depth}"


def _scaled(shortcut: float, branch: float, published: float) -> Variant:
    options = {"shortcut": "constant_scaling", "shortcut_scale": shortcut, "branch_scale": branch}
    name = f"scaling_{shortcut:g}_{branch:g}"
    return Variant(name, f"scaling: {shortcut:g} x + {branch:g} F", options, {110: published})


ORIGINAL = Variant("original", "original: x + F", {}, {110: 6.61, 164: 5.93})
SCALINGS = (_scaled(0, 1, FAIL), _scaled(0.5, 1, FAIL), _scaled(0.5, 0.5, 12.35))
CONVOLUTION = Variant("convolution", "1x1 convolution", {"shortcut": "C"}, {110: 12.22})
DROPOUT = Variant("dropout", "dropout 0.5", {"shortcut": "dropout"}, {110: FAIL})
ORDERS = (
    Variant("bn_after_addition", "BN after addition", {"order": "bn_after_addition"}, {110: 8.17, 164: 6.50}),
    Variant(
        "relu_before_addition",
        "ReLU before addition",
        {"order": "relu_before_addition"},
        {110: 7.84, 164: 6.14},
    ),
    Variant(
        "relu_only_preactivation",
        "ReLU-only pre-activation",
        {"order": "relu_only_preactivation"},
        {110: 6.71, 164: 5.91},
    ),
    # By a name of its own, for the bottlenecks' projections have no BatchNorm either.
    Variant(
        "full_preactivation", "full pre-activation", {}, {110: 6.37, 164: 5.46}, model="preresnet{depth}"
    ),
)
_EXCLUSIVE: Mapping[float, float] = {
    0: FAIL,
    -1: FAIL,
    -2: FAIL,
    -3: FAIL,
    -4: FAIL,
    -5: FAIL,
    -6: 8.70,
    -7: 9.81,
}
_SHORTCUT_ONLY: Mapping[float, float] = {0: 12.86, -6: 6.91}
GATE_ERRORS = {"exclusive_gating": _EXCLUSIVE, "shortcut_only_gating": _SHORTCUT_ONLY}
"""Published errors of ResNet-110 by the gates' initial bias; of the other biases tried, 0 to -10, the paper
says only that none is better than -6."""
GATE_TITLES = {
    "exclusive_gating": "exclusive gate: (1-g) x + g F",
    "shortcut_only_gating": "shortcut-only gate: (1-g) x + F",
}


def gated(gate: str, bias: float) -> Variant:
    """A network whose gates g, by the name of their shortcut, start with this bias."""
    error = GATE_ERRORS[gate].get(bias)
    return Variant(
        f"{gate}_{bias:g}",
        f"{GATE_TITLES[gate]}, b = {bias:g}",
        {"shortcut": gate, "gate_bias": float(bias)},
        {} if error is None else {110: error},
    )


def shortcuts(biases: Sequence[float]) -> tuple[Variant, ...]:
    """Those of table 1."""
    gates = (gated(gate, bias) for gate in GATE_ERRORS for bias in biases)
    return (ORIGINAL, *SCALINGS, *gates, CONVOLUTION, DROPOUT)
