"""The data of a report's charts, from runs on disk: curves, layers against depth, gradients of samples."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cnnjax.report.records import NO_METRICS, RunRecord

POINTS = 400  # along a curve; each is the mean of the steps since the point before
TOTAL_POINTS = 150_000  # of all curves of a page
PROFILES = 400_000  # numbers of all layers' statistics
COSINES = 600_000  # of all matrices
PARTS = ("train_", "averaged_test_", "test_")
STATISTICS = {
    "weight_gradient_norm": "Norm of the gradient by the weights",
    "activation_gradient_norm": "Norm of the gradient by the layer's output",
    "response_std": "Standard deviation of the response",
    "rms": "Root mean square of the output",
    "weight_norm": "Norm of the weights",
    "update_norm": "Norm of the weights' change",
    "gradient_cosine": "Cosine of the gradient with that of the step before",
    "activation": "Fraction of responses above 0",
    "co_activation": "Fraction above 0 for both of two inputs",
    "dead_fraction": "Fraction of dead channels",
    "scale": "Root mean square of BatchNorm's gamma",
    "branch_rms": "Root mean square of the residual branch",
    "stream_rms": "Root mean square of the shortcut",
}
OF_BLOCKS = ("branch_rms", "stream_rms")


def curves(families: Sequence[Sequence[RunRecord]]) -> dict[str, Any]:
    """What the runs of each family measured along their steps.

    Returns:
        `quantities`, such as loss and error, each with its `name` and `parts` ("train", "test", ...);
        `steps`, lists that several curves share; `points`[run]["PART/QUANTITY"], the index of such a list and
        the values. Runs are counted through all families. Empty if nothing was measured.
    """
    runs = [run for family in families for run in family]
    names = dict.fromkeys(name for run in runs for line in run.lines for name in line)
    names = [name for name in names if name not in NO_METRICS]
    quantities: dict[str, list[str]] = {}
    for name in names:
        part, quantity = split_metric(name)
        quantities.setdefault(quantity, []).append(part)
    if not quantities:
        return {}
    points = max(20, min(POINTS, TOTAL_POINTS // (len(runs) * len(names))))
    grids: dict[tuple[float, ...], int] = {}
    found = []
    for family in families:
        longest = {name: max(_count(run, name) for run in family) for name in names}
        for run in family:
            own = {}
            for name in names:
                steps, values = _blocks(run, name, -(-longest[name] // points) or 1)
                if len(steps):
                    grid = grids.setdefault(tuple(_numbers(steps)), len(grids))
                    own["/".join(split_metric(name))] = [grid, _numbers(values)]
            found.append(own)
    order = sorted(quantities, key=lambda name: (name not in ("loss", "error"), name != "loss"))
    parts = {
        name: sorted(quantities[name], key=("train", "test", "averaged_test", "").index) for name in order
    }
    return {
        "quantities": [{"name": name, "parts": parts[name]} for name in order],
        "steps": list(map(list, grids)),
        "points": found,
    }


def layers(runs: Mapping[str, RunRecord]) -> dict[str, Any]:
    """Statistics of the layers of each run that has them, by its label.

    Returns:
        `statistics`, with `name`, `label` and whether they are `of` "layers" or "blocks"; `runs`, each with
        its `label`, `steps`, names of `layers` and `blocks`, and `values`[statistic][step][layer]; and a
        `note` of what is left out. Empty if no run has any.
    """
    found, used, left = [], 0, 0
    for label, run in runs.items():
        by_step = {step: arrays for step, arrays in run.measured().items() if "layers" in arrays}
        if not by_step:
            continue
        one = _profile(label, by_step)
        size = sum(len(values) * len(values[0]) for values in one["values"].values())
        if found and used + size > PROFILES:
            left += 1
            continue
        used += size
        found.append(one)
    if not found:
        return {}
    names = dict.fromkeys(name for one in found for name in one["values"])
    statistics = [
        {"name": name, "label": label, "of": "blocks" if name in OF_BLOCKS else "layers"}
        for name, label in STATISTICS.items()
        if name in names
    ]
    note = f"{left} more were measured: a report of fewer runs shows them." if left else ""
    return {"statistics": statistics, "runs": found, "note": note}


def samples(runs: Mapping[str, RunRecord]) -> dict[str, Any]:
    """Cosines between the gradients of samples, of each run that has them, by its label.

    Returns:
        `runs`, each with its `label`, `steps`, `layers`, the `side` of its matrices, `cosines`[step][layer]
        in hundredths, row by row, and the `mean`[step][layer] over pairs. Of many layers, a few evenly spaced
        ones are shown, and `note` says so. Empty if no run has any.
    """
    measured = {label: run.measured("samples") for label, run in runs.items()}
    measured = {label: by_step for label, by_step in measured.items() if by_step}
    found, note = [], ""
    for label, by_step in measured.items():
        first = next(iter(by_step.values()))
        count, side = first["cosines"].shape[:2]
        shown = max(2, COSINES // (len(measured) * len(by_step) * side**2))
        chosen = np.unique(np.linspace(0, count - 1, min(shown, count)).round().astype(int))
        if len(chosen) < count:
            note = f"{len(chosen)} of {count} layers are shown."
        found.append(
            {
                "label": label,
                "steps": list(by_step),
                "layers": [str(first["layers"][index]) for index in chosen],
                "side": side,
                "cosines": [
                    [_hundredths(arrays["cosines"][index]) for index in chosen] for arrays in by_step.values()
                ],
                "mean": [_numbers(arrays["mean_cosine"][chosen]) for arrays in by_step.values()],
            }
        )
    return {"runs": found, "note": note} if found else {}


def _profile(label: str, by_step: Mapping[int, Mapping[str, np.ndarray]]) -> dict[str, Any]:
    first = next(iter(by_step.values()))
    names = [name for name in STATISTICS if name in first and first[name].size]
    return {
        "label": label,
        "steps": list(by_step),
        "layers": [str(name) for name in first["layers"]],
        "blocks": [str(name) for name in first.get("blocks", ())],
        "values": {name: [_numbers(arrays[name]) for arrays in by_step.values()] for name in names},
    }


def split_metric(name: str) -> tuple[str, str]:
    """Part and quantity of a metric: "train_loss" is ("train", "loss"), "learning_rate" ("", itself)."""
    for part in PARTS:
        if name.startswith(part):
            return part[:-1], name.removeprefix(part)
    return "", name


def in_percent(metric: str) -> bool:
    """Whether it is a share that is shown in percent: an error, of whatever part."""
    quantity = split_metric(metric)[1]
    return quantity == "error" or quantity.endswith("_error")


def _count(run: RunRecord, name: str) -> int:
    return sum(name in line for line in run.lines)


def _blocks(run: RunRecord, name: str, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Steps and values of a metric, means of `size` lines each; a last block that is not full is left out."""
    found = np.array([(line["step"], line[name]) for line in run.lines if name in line], float).reshape(-1, 2)
    whole = len(found) // size * size
    steps, values = found[:whole].reshape(-1, size, 2).mean(1).T
    return steps, values


def _numbers(values: np.ndarray) -> list[float]:
    """With five digits, so that the page is small; whole numbers stay whole."""
    return [int(one) if one.is_integer() else float(f"{one:.5g}") for one in map(float, values)]


def _hundredths(matrix: np.ndarray) -> list[int]:
    return np.nan_to_num(100 * matrix).round().astype(int).ravel().tolist()
