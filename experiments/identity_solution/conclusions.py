"""Rows, tables and figures of the experiment."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cnnjax.config import Config
from cnnjax.report.identity import Curve, distances, further_training
from cnnjax.report.page import Table

from ..runner import Findings, percent
from .growing import moved
from .settings import STARTS, Preset, Runs, Start, scratch

Arrays = Mapping[str, np.ndarray]
"""Of one seed, from `Growth.agreement`."""


def conclude(
    chosen: Preset,
    runs: Runs,
    ends: Mapping[str, Mapping[str, float]],
    agreements: Sequence[Arrays],
    found: Findings,
    out: Path,
) -> None:
    """Write what was found; `ends` are the final metrics by run, `agreements` are by seed."""
    kernels: dict[tuple[str, float], list[Any]] = {}
    for seed in range(chosen.seeds):
        for deep in (False, True):
            name = scratch(chosen, deep, seed)
            row = _row("scratch", chosen.depths[deep], seed, runs.first[name])
            found.results.append({**row, **_errors(ends[name])})
        for start in STARTS:
            for rate in chosen.rates:
                name = runs.of[start.name, seed, rate]
                row = _row(start.name, chosen.depths[start.deep], seed, runs.further[name])
                row |= _errors(ends[name])
                if "diverged_at" not in row:
                    inserted, others = moved(out, chosen, start, seed, name)
                    row |= {"distance_from_dirac": _mean(inserted)} if start.deep else {}
                    row |= {"others_moved": _mean(others)}
                    kernels.setdefault((start.name, rate), []).append(list(inserted.values()))
                found.results.append(row)
    found.others["agreement"] = [
        {"start": start.name, "seed": seed}
        | {key: float(arrays[f"{start.name}_{key}"]) for key in COMPARED}
        | {"largest_logit": float(arrays["largest_logit"])}
        for seed, arrays in enumerate(agreements)
        for start in STARTS[1:]
    ]
    found.figures |= _figures(chosen, runs, ends, kernels, out)
    found.tables |= {**_agreement(chosen, agreements), **_further(chosen, found.results)}


def answer(chosen: Preset, results: Sequence[Mapping[str, Any]]) -> str:
    """What the results say, in words; errors are means over the seeds that did not diverge."""

    def error(start: str, depth: int, rate: float) -> str:
        rows = [row for row in results if (row["start"], row["depth"], row["rate"]) == (start, depth, rate)]
        values = [row["train_error"] for row in rows if row["train_error"] is not None]
        return f"{100 * np.mean(values):.1f} %" if len(values) == len(rows) else "divergence"

    shallow, deep = chosen.depths
    recipe = next(row["rate"] for row in results if row["start"] == "scratch")
    rates = list(dict.fromkeys(row["rate"] for row in results if row["start"] == "calibrated"))
    kept = "; ".join(
        f"at the rate {rate:g} to {error('calibrated', deep, rate)} (plain{shallow} itself: "
        f"{error('shallow', shallow, rate)})"
        for rate in rates
    )
    return (
        f"Answer. A plain{deep} exists that computes what the trained plain{shallow} does, whose training "
        f"error is {error('scratch', shallow, recipe)}. Trained from scratch by this recipe, plain{deep} "
        f"ends at {error('scratch', deep, recipe)}. From there on, with BatchNorm calibrated, it goes "
        f"{kept}. This says nothing of other recipes or longer training, and not that growing is of use: for "
        f"that, compare with plain{shallow} itself."
    )


COMPARED = ("evaluation", "evaluation_float64", "training")


def _row(start: str, depth: int, seed: int, config: Config) -> dict[str, Any]:
    return {
        "start": start,
        "depth": depth,
        "seed": seed,
        "steps": config.steps,
        "rate": round(config.learning_rate, 9),
    }


def _errors(metrics: Mapping[str, float]) -> dict[str, float | None]:
    """The final errors; of a run that diverged None, and its last step."""
    if "diverged_at" in metrics:
        return {"train_error": None, "test_error": None, "diverged_at": metrics["diverged_at"]}
    return {name: round(metrics[name], 6) for name in ("train_error", "test_error")}


def _mean(values: Mapping[str, float]) -> float:
    return round(float(np.mean(list(values.values()))), 6)


def _title(start: Start, chosen: Preset) -> str:
    return start.title.format(shallow=chosen.depths[0], deep=chosen.depths[1])


def _figures(
    chosen: Preset,
    runs: Runs,
    ends: Mapping[str, Mapping[str, float]],
    kernels: Mapping[tuple[str, float], Any],
    out: Path,
) -> dict[str, dict[str, Path]]:
    rates = {rate: f"{rate:g} of the peak rate" if rate != 1 else "peak rate" for rate in chosen.rates}

    def curve(start: Start, rate: float) -> Curve:
        names = [runs.of[start.name, seed, rate] for seed in range(chosen.seeds)]
        return Curve(
            _title(start, chosen),
            (start.deep, start.folded, start.calibrated),
            [out / name / "metrics.jsonl" for name in names],
            any("diverged_at" in ends[name] for name in names),
        )

    panels = {title: [curve(start, rate) for start in STARTS] for rate, title in rates.items()}
    deep = [start for start in STARTS if start.deep]
    columns = {
        _title(start, chosen): {
            title: np.array(kernels[start.name, rate])
            for rate, title in rates.items()
            if (start.name, rate) in kernels
        }
        for start in deep
    }
    scratched = {
        f"plain{chosen.depths[1]} from scratch, after {chosen.steps + chosen.further} steps": [
            100 * ends[scratch(chosen, True, seed)]["train_error"] for seed in range(chosen.seeds)
        ]
    }
    return {
        "Training error from the same function on, at several rates (bands: all seeds).": (
            further_training(panels, scratched, out / "further_training")
        ),
        "Distance of each inserted kernel from Dirac, relative to its norm (bands: all seeds).": (
            distances(columns, out / "distances")
        ),
    }


def _agreement(chosen: Preset, agreements: Sequence[Arrays]) -> dict[str, Table]:
    rows = [
        [
            _title(start, chosen),
            *(f"{max(arrays[f'{start.name}_{key}'] for arrays in agreements):.1e}" for key in COMPARED),
        ]
        for start in STARTS[1:]
    ]
    largest = max(float(arrays["largest_logit"]) for arrays in agreements)
    caption = (
        f"Largest difference of a logit from those of the trained plain{chosen.depths[0]}, whose largest is "
        f"{largest:.1f}; over {chosen.images} test images, a training batch, and all seeds."
    )
    return {caption: (["start", "evaluation", "in float64", "training mode"], rows)}


def _further(chosen: Preset, results: Sequence[Mapping[str, Any]]) -> dict[str, Table]:
    """A row for each start and rate."""
    titles = {start.name: _title(start, chosen) for start in STARTS}
    groups: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for row in results:
        title = titles.get(row["start"], f"plain{row['depth']} from scratch")
        groups.setdefault((title, f"{row['rate']:g}"), []).append(row)
    rows = []
    for (title, rate), some in groups.items():
        values = {key: [row[key] for row in some if row.get(key) is not None] for key in DIGITS}
        diverged = sum("diverged_at" in row for row in some)
        cells = [percent(values[key], digits) if values[key] else "" for key, digits in DIGITS.items()]
        cells[0] += f" ({diverged} of {len(some)} diverged)" * bool(diverged)
        rows.append([title, rate, str(some[0]["steps"]), *cells])
    header = ["start", "rate", "steps", "training error", "test error", "from Dirac", "others moved"]
    caption = (
        "Errors in percent at the end, and how far kernels moved in percent of their norm: the inserted ones "
        "from Dirac, and the others. Mean and standard deviation over seeds."
    )
    return {caption: (header, rows)}


DIGITS = {"train_error": 1, "test_error": 1, "distance_from_dirac": 2, "others_moved": 2}
