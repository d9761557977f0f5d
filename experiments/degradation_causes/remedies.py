"""The remedies: what each changes of the deep plain net or of its training."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Literal

Kind = Literal["reference", "training", "network", "shortcuts"]
"""Nothing is changed, training is, the plain net is, or the net has shortcuts: a control, no plain net."""


def _same(depth: int) -> int:
    return depth


def _with_four_stages(depth: int) -> int:
    """The next depth that is 4n + 2, as looks-linear nets have."""
    return depth + (2 - depth) % 4


@dataclasses.dataclass(frozen=True)
class Remedy:
    """One change.

    Attributes:
        name: in results and folders.
        title: in figures and tables.
        kind: what it changes.
        model: name of the network, given the depth.
        options: fields of the network.
        fields: of the Config.
        rate: multiple of the recipe's peak rate.
        length: multiple of the steps.
        warmed_up: whether the rate rises over the preset's warm-up.
        depth: of its network, given the plain net's.
    """

    name: str
    title: str
    kind: Kind
    model: str = "plain{}"
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    fields: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    rate: float = 1.0
    length: int = 1
    warmed_up: bool = False
    depth: Callable[[int], int] = _same


UNTREATED = Remedy("none", "untreated", "reference")
SCALARS = {"*/bias": {"rate": 0.1}, "*/scale": {"rate": 0.1}}
"""Fixup's code trains its scalars at a tenth of the rate."""

# Nets without normalisation take pixels of variance 1, which the others do not notice.
REMEDIES = (
    Remedy("warmup", "warm-up", "training", warmed_up=True),
    Remedy("clipping", "clipping by layer", "training", fields={"clip_layer_norm": 0.3}),
    Remedy("fixed_norms", "fixed weight norms", "training", fields={"fixed_norms": True}),
    Remedy("longer", "3 times as long", "training", length=3),
    Remedy("lower_rate", "0.3 of the rate", "training", rate=0.3),
    Remedy("layer_norm", "LayerNorm", "network", options={"norm": "layer"}),
    Remedy(
        "no_norm", "He without BatchNorm", "network", options={"norm": "none"},
        fields={"normalize": "channel"},
    ),
    Remedy(
        "delta_orthogonal", "delta-orthogonal tanh without BatchNorm", "network", rate=0.1,
        options={"norm": "none", "kernel_init": "delta_orthogonal", "activation": "tanh"},
        fields={"normalize": "channel"},
    ),
    Remedy(
        "looks_linear", "looks-linear without BatchNorm", "network", "looks_linear{}", rate=0.04,
        fields={"normalize": "channel"}, depth=_with_four_stages,
    ),
    Remedy("shortcuts", "ResNet", "shortcuts", "resnet{}"),
    Remedy("preactivation", "pre-activation", "shortcuts", "preresnet{}"),
    Remedy("stochastic_depth", "stochastic depth", "shortcuts", "resnet{}_stochastic_depth"),
    Remedy(
        "fixup", "Fixup", "shortcuts", "fixup_resnet{}",
        fields={"normalize": "channel", "groups": SCALARS},
    ),
    Remedy(
        "skipinit", "SkipInit", "shortcuts", "skipinit_resnet{}",
        fields={"normalize": "channel"},
    ),
)  # fmt: skip
NAMES = tuple(remedy.name for remedy in REMEDIES)
