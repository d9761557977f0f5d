"""Rows, tables and figures of the experiment, and its answer in words."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cnnjax.probes import random_walk_explained
from cnnjax.report import landscape as draw
from cnnjax.report.page import Table

from ..runner import Findings, percent, spread
from .measuring import RADIUS
from .settings import Preset, Runs

Arrays = Mapping[str, np.ndarray]
"""Of one run, from `Around.arrays`; of a pair of runs, from `Between.arrays`."""
Rows = Sequence[Mapping[str, Any]]


def conclude(
    chosen: Preset,
    runs: Runs,
    ends: Mapping[str, Mapping[str, float]],
    arrays: Mapping[str, Arrays],
    between: Sequence[Arrays],
    found: Findings,
    out: Path,
) -> None:
    """Write what was found; `ends` are the final metrics by run, `arrays` are by run too."""
    names = {net.name: [net.run(seed) for seed in range(chosen.seeds)] for net in chosen.nets}
    for kind, groups in (("model", names), ("arm", runs.arms)):
        for group, members in groups.items():
            found.results += [
                {kind: group, "seed": seed, **_errors(ends[name]), **numbers(arrays[name])}
                for seed, name in enumerate(members)
            ]
    first = {name: arrays[members[0]] for name, members in names.items()}
    walk = random_walk_explained(len(next(iter(first.values()))["path"]))
    found.others |= {
        "lines": [
            {kind: group, "seed": seed, "loss": _rounded(arrays[name]["line"])}
            for kind, groups in (("model", names), ("arm", runs.arms))
            for group, members in groups.items()
            for seed, name in enumerate(members)
        ],
        "trajectories": [
            {"model": name, "explained": _rounded(each["explained"][:3])} for name, each in first.items()
        ]
        + [{"model": "random walk", "explained": _rounded(walk[:3])}],
        "connectivity": [barriers(each) for each in between],
    }
    found.figures |= _figures(chosen, names, runs, arrays, between, out)
    found.tables |= {**_around(found.results), **_batches(found.results)}
    found.tables |= _trajectories(found.others["trajectories"])
    if between:
        found.tables |= _ways(found.others["connectivity"])


def numbers(arrays: Arrays) -> dict[str, float]:
    """What the arrays of one run come to: losses on the line, and the ends of the spectrum."""
    line, values, weights = arrays["line"], arrays["values"], arrays["weights"]
    places = np.linspace(-RADIUS, RADIUS, len(line))
    rises = {at: np.interp([-at, at], places, line).mean() - line[len(line) // 2] for at in (0.5, 1.0)}
    seen = values[weights > 1e-9]
    found = {
        "loss": line[len(line) // 2],
        "rise_at_half": rises[0.5],
        "rise_at_one": rises[1.0],
        "top_eigenvalue": seen.max(),
        "lowest_eigenvalue": seen.min(),
        "trace": arrays["parameters"] * (values * weights).sum(),
    }
    if "sharpness" in arrays:
        found["box_sharpness"] = arrays["sharpness"]
    return {name: float(f"{float(value):.5g}") for name, value in found.items()}


def barriers(arrays: Arrays) -> dict[str, float]:
    """How far each way rises above the straight line between the values at its ends, at its highest point."""
    t = arrays["t"]
    found = {}
    for name, values in arrays.items():
        if name != "t":
            found[f"{name}_barrier"] = float((values - (1 - t) * values[0] - t * values[-1]).max())
    return {name: round(value, 6) for name, value in found.items()}


def _errors(metrics: Mapping[str, float]) -> dict[str, float]:
    return {name: round(metrics[name], 6) for name in ("train_error", "test_error")}


def _rounded(values: np.ndarray) -> list[float]:
    return [float(f"{value:.4g}") for value in values]


def _figures(
    chosen: Preset,
    names: Mapping[str, Sequence[str]],
    runs: Runs,
    arrays: Mapping[str, Arrays],
    between: Sequence[Arrays],
    out: Path,
) -> dict[str, dict[str, Path]]:
    def lines(groups: Mapping[str, Sequence[str]]) -> dict[str, np.ndarray]:
        return {
            group: np.stack([arrays[name]["line"] for name in group_names])
            for group, group_names in groups.items()
        }

    def measure(value: str) -> dict[str, list[float]]:
        return {arm: [numbers(arrays[name])[value] for name in members] for arm, members in runs.arms.items()}

    first = {name: arrays[members[0]] for name, members in names.items()}
    spectra = {
        name: [(arrays[each]["values"], arrays[each]["weights"]) for each in members]
        for name, members in names.items()
    }
    found = {
        "Loss on a plane of filter-normalised random directions, seed 0, on one logarithmic scale.": (
            draw.planes({name: each["plane"] for name, each in first.items()}, RADIUS, out / "planes")
        ),
        "Loss along a filter-normalised random direction, for each seed.": (
            draw.lines(lines(names), RADIUS, out / "lines")
        ),
        "Spectrum of the Hessian at the end of training: values and weights of Lanczos' quadrature.": (
            draw.spectra(spectra, out / "spectra")
        ),
        f"{chosen.nets[0].name} trained with a small batch and a large one.": draw.batch_sizes(
            lines(runs.arms),
            {
                "largest eigenvalue": measure("top_eigenvalue"),
                "sharpness in a box (%)": measure("box_sharpness"),
            },
            RADIUS,
            out / "batch_sizes",
        ),
        "Training in the plane of its first two principal components, seed 0; BatchNorm estimated anew.": (
            draw.trajectories(
                {
                    f"{name}: {100 * each['explained'][:2].sum():.0f} % of the variance": (
                        *each["axes"], each["trajectory"], each["path"]
                    )
                    for name, each in first.items()
                },
                out / "trajectories",
            )
        ),
    }  # fmt: skip
    if between:
        panels = {
            label: {
                title: factor * np.stack([each[f"{way}_{kind}"] for each in between])
                for way, title in (("line", "straight line"), ("curve", "trained curve"))
            }
            for kind, label, factor in (("loss", "loss (nats)", 1), ("error", "training error (%)", 100))
        }
        caption = f"Between the minima of two seeds of {chosen.nets[0].name}, BatchNorm estimated anew."
        found[caption] = draw.ways(panels, between[0]["t"], out / "ways")
    return found


def _cell(rows: Rows, name: str) -> str:
    over = spread([row[name] for row in rows])
    return f"{over['mean']:.3g} ± {over['std']:.2g}"


def _grouped(results: Rows, kind: str) -> Mapping[str, Rows]:
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for row in results:
        if kind in row:
            groups.setdefault(row[kind], []).append(row)
    return groups


COLUMNS = {
    "loss": "loss", "rise_at_half": "rise at 0.5", "rise_at_one": "rise at 1",
    "top_eigenvalue": "largest eigenvalue", "lowest_eigenvalue": "lowest", "trace": "trace",
    "box_sharpness": "sharpness (%)",
}  # fmt: skip


def _table(results: Rows, kind: str, columns: Sequence[str]) -> tuple[Sequence[str], Sequence[Sequence[str]]]:
    header = [kind, "training error", "test error", *(COLUMNS[name] for name in columns)]
    rows = [
        [
            group,
            *(percent([row[name] for row in rows]) for name in ("train_error", "test_error")),
            *(_cell(rows, name) for name in columns),
        ]
        for group, rows in _grouped(results, kind).items()
    ]
    return header, rows


def _around(results: Rows) -> dict[str, Table]:
    caption = (
        "Errors in percent; the loss of the drawn images in evaluation, and how much it rises at a distance "
        "along a random direction, in nats; eigenvalues of the Hessian and its trace, of the loss that is "
        "trained. Mean and standard deviation over seeds."
    )
    return {caption: _table(results, "model", list(COLUMNS)[:6])}


def _batches(results: Rows) -> dict[str, Table]:
    caption = (
        "The same with other batch sizes, and the sharpness in a box (Keskar et al. 2017, metric 2.1). Mean "
        "and standard deviation over seeds."
    )
    return {caption: _table(results, "arm", list(COLUMNS))}


def _trajectories(rows: Rows) -> dict[str, Table]:
    caption = "Share of the checkpoints' variance in each principal component (%), seed 0."
    cells = [[row["model"], *(f"{100 * share:.1f}" for share in row["explained"])] for row in rows]
    return {caption: (["model", "first", "second", "third"][: len(cells[0])], cells)}


def _ways(rows: Rows) -> dict[str, Table]:
    caption = (
        "Barriers between two seeds: the highest rise above the line between the values at their ends. "
        "Mean and standard deviation over pairs."
    )
    cells = [
        [way, _cell(rows, f"{name}_loss_barrier"), percent([row[f"{name}_error_barrier"] for row in rows])]
        for name, way in (("line", "straight line"), ("curve", "trained curve"))
    ]
    return {caption: (["way", "loss (nats)", "training error (%)"], cells)}
