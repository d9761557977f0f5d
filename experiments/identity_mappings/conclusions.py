"""The rows of the results, and the answer in words."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import spearmanr

from ..runner import Findings, percent
from .carrying import KINDS
from .measurement import STATES
from .settings import Preset, variants
from .showing import DIRECTIONS, Row, figures, table_of_errors, table_of_products, values_of
from .variants import DEPTHS, FAIL, ORIGINAL, Variant

Arrays = Mapping[str, np.ndarray]
"""Of one run, from `Measurement.arrays`."""


def conclude(
    chosen: Preset,
    metrics: Mapping[str, Mapping[str, float]],
    arrays: Mapping[str, Arrays],
    found: Findings,
    out: Path,
) -> None:
    """Write what was found of each run, from its final `metrics` and its `arrays`, by the run's name."""
    known = variants(chosen)
    found.others["carried"] = []
    for net in chosen.nets:
        _, variant = known.get(net.name, (0, Variant(net.name, net.name, {})))
        published = {f"resnet{depth}": _named(error) for depth, error in variant.published.items()}
        for seed in range(chosen.seeds):
            run, row = net.run(seed), {"variant": net.name, "model": net.model, "seed": seed}
            own, end = arrays.get(run, {}), metrics[run]
            errors = {name: round(end[name], 6) for name in ("train_error", "test_error") if name in end}
            diverged = {"diverged_at": end["diverged_at"]} if "diverged_at" in end else {}
            carried = [{**row, "state": state, **_carried(own, n)} for n, state in enumerate(STATES) if own]
            ends = {f"{each['state']}_{name}": each[name][-1] for each in carried for name in CARRIED}
            found.others["carried"] += carried
            found.results.append({**row, "published": published, **errors, **diverged, **ends})
    found.figures |= figures(chosen, found, out)
    found.tables |= {**table_of_errors(chosen, found.results), **table_of_products(chosen, found.results)}


MEASURED = tuple(f"{direction}_{kind}" for direction in DIRECTIONS for kind in KINDS)
CARRIED = (*MEASURED, *(f"{direction}_closed_form" for direction in DIRECTIONS))


def answer(results: Sequence[Row]) -> str:
    """What the results say, in words; "worse" are networks with all seeds above all of the original's.

    A run that diverged is worse than any other.
    """
    names = dict.fromkeys(row["variant"] for row in results)
    tests = {
        name: [row.get("test_error", FAIL) for row in results if row["variant"] == name] for name in names
    }
    original = tests.get(ORIGINAL.name)
    if not original or len(tests) < 2:
        return "Answer. There is nothing to compare with: the original network was not trained."
    worse = [name for name, own in tests.items() if min(own) > max(original)]
    better = [name for name, own in tests.items() if max(own) < min(original)]
    told = f"With every seed worse: {_listed(worse)}. With every seed better: {_listed(better)}."
    if len(original) == 1:
        told = "With one seed there is no spread that differences could be compared with."
    said = [f"Answer. The original ends at {percent(original)} % test error.", told]
    pairs = [
        (np.mean(tests[row["variant"]]), FAIL if error == "fail" else error)
        for row in results
        if row["seed"] == 0
        for model, error in row["published"].items()
        if model == f"resnet{DEPTHS[0]}"
    ]
    if len(pairs) > 2:
        correlation: Any = spearmanr(*np.array(pairs).T)
        said.append(
            f"The rank correlation with the published errors of ResNet-{DEPTHS[0]} is "
            f"{correlation.statistic:.2f}, over {len(pairs)} networks, failures as equal last."
        )
    for name in names:
        keys = (f"trained_{key}" for key in ("forward_shortcut", "backward_shortcut", "forward_closed_form"))
        values = [np.mean(own) for key in keys if (own := values_of(results, name, key))]
        if len(values) == 3 and 0 < values[-1] < 0.99:
            said.append(
                f"{name}: trained, the shortcuts alone carry {values[0]:.1e} of the signal and "
                f"{values[1]:.1e} of the gradient; the product of their scales is {values[2]:.1e}."
            )
    return " ".join(said)


def _named(error: float) -> float | str:
    return "fail" if error == FAIL else error


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names) or "none"


def _carried(arrays: Arrays, state: int) -> dict[str, list[float | None]]:
    """Numbers by blocks passed, 1 or more; None where there is no closed form."""
    scales = arrays["closed_form"][state].astype(float)
    every = {name: arrays[name][state] for name in MEASURED}
    every |= {"forward_closed_form": np.cumprod(scales), "backward_closed_form": np.cumprod(scales[::-1])}
    return {
        name: [float(f"{value:.4g}") if np.isfinite(value) else None for value in values]
        for name, values in every.items()
    }
