"""A measured net as a row of the summary, and quantities derived from it."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from cnnjax.ops.depth import stage_of
from cnnjax.report.page import Table

HEADER = ["family", "depth", "at", "first / last", "slope", "stage 1", "stage 2", "stage 3", "stage 4"]
CAPTION = (
    "Ratio of the weight gradients' norms of the first and the last convolution, and the factor of the "
    "gradient by the output per convolution on the way back; geometric means over seeds."
)


def growth(norms: list[float]) -> float:
    """Factor of the gradient's norm per layer on the way back: a fit of its logarithm."""
    positive = [norm for norm in norms if norm > 0]  # 0 is an underflow: a sigmoid net's first layers
    return float(np.exp(-np.polyfit(range(len(positive)), np.log(positive), 1)[0]))


def row(model: str, family: str, depth: int, seed: int, step: int, arrays: Mapping[str, Any]) -> dict:
    """A row of the summary: lists over layers in the order of their calls, and derived quantities."""
    stages: dict[int, list[int]] = {}  # the convolutions of each
    for index, name in enumerate(arrays["layers"].tolist()):
        if stage := stage_of(name.partition("/")[0]):
            stages.setdefault(stage, []).append(index)
    weight_gradient, returned = arrays["weight_gradient_norm"], arrays["activation_gradient_norm"]
    convolutions = [index for stage in stages.values() for index in stage]
    return {
        "model": model,
        "family": family,
        "depth": depth,
        "seed": seed,
        "step": step,
        "first_to_last": float(weight_gradient[0] / weight_gradient[convolutions[-1]]),
        "slope": growth(returned[convolutions].tolist()),
        "slope_by_stage": [growth(returned[stage].tolist()) for stage in stages.values()],
        **{
            name: [None if value != value else value for value in values.tolist()]
            for name, values in arrays.items()
        },
    }


def table(results: list[dict[str, Any]]) -> dict[str, Table]:
    """The table of all rows, by its caption: one line for the seeds of a model at a step."""
    groups: dict[tuple, list[dict[str, Any]]] = {}
    for one in results:
        at = "init" if one["part"] == "init" else f"step {one['step']}"
        groups.setdefault((one["family"], str(one["depth"]), at), []).append(one)
    rows = []
    for name, found in groups.items():
        stages = zip(*(one["slope_by_stage"] for one in found), strict=True)
        slopes = [_mean([one["slope"] for one in found]), *(_mean(list(factors)) for factors in stages)]
        ratio = f"{_mean([one['first_to_last'] for one in found]):.3g}"
        cells = [*name, ratio, *(f"{slope:.3f}" for slope in slopes)]
        rows.append(cells + [""] * (len(HEADER) - len(cells)))
    return {CAPTION: (HEADER, rows)}


def _mean(values: list[float]) -> float:
    """Geometric; 0 if one of them is."""
    return float(np.exp(np.mean(np.log(values)))) if min(values) > 0 else 0.0
