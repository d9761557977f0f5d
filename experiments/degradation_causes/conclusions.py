"""Rows, tables and figures of the experiment."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import spearmanr

from cnnjax.report.causes import Point, against_statistics, errors_by_remedy

from ..runner import Findings, percent
from .claims import Patient
from .measurement import first_steps
from .remedies import REMEDIES, UNTREATED
from .settings import Arm, Preset

STATISTICS = {
    "first_to_last": "first / last layer's weight gradient",
    "relative": "median of |g| / |W|",
}


def conclude(
    arms: Sequence[Arm],
    chosen: Preset,
    ends: Mapping[str, Mapping[str, float]],
    verdicts: Sequence[Mapping[str, np.ndarray]],
    found: Findings,
    out: Path,
    chance: float,
) -> None:
    """Write what was found; `ends` are final metrics by run, `verdicts` are by arm, from `Verdicts`.

    `chance` is the error of a guess.
    """
    found.results += [
        _row(arm, seed, ends[arm.run(seed)], verdict, out / arm.run(seed), chance)
        for arm, verdict in zip(arms, verdicts, strict=True)
        for seed in range(chosen.seeds)
    ]
    names = list(dict.fromkeys(row["patient"] for row in found.results if not row["shallow"]))
    patients = [Patient(name, found.results) for name in names]
    found.figures |= {
        "Final training error by remedy, a point for each seed; lines and bands: the untreated net, the "
        "shallow one and the residual one.": errors_by_remedy(
            {patient.name: _panel(patient) for patient in patients},
            {patient.name: _references(patient) for patient in patients},
            out / "remedies",
            100 * chance,
        ),
        _caption(found.results): against_statistics(
            _columns(found.results), out / "gradients", "training error (%)"
        ),
    }
    caption = (
        "Errors in percent at the end, mean and standard deviation over seeds; the share of the gap to the "
        "shallow net that is closed; the first over the last layer's weight gradient at the first and at the "
        "last measured step, and the median of |g| / |W| over layers, as geometric means; how many seeds "
        "`diagnose` expects to train."
    )
    header = [
        "net", "remedy", "training error", "test error", "gap closed", "outcome", "first / last", "later",
        "|g| / |W|", "later", "expected",
    ]  # fmt: skip
    rows = [_line(arm, rows, patient) for patient in patients for arm, rows in patient.arms.items()]
    if patients and patients[0].shallow:
        rows.insert(0, _line(UNTREATED.name, patients[0].shallow, None))
    found.tables[caption] = header, rows


def _row(
    arm: Arm,
    seed: int,
    end: Mapping[str, float],
    verdict: Mapping[str, np.ndarray],
    run: Path,
    chance: float,
) -> dict[str, Any]:
    diverged = "diverged_at" in end
    values = {
        "training_error": None if diverged else round(end["train_error"], 6),
        "test_error": None if diverged else round(end["test_error"], 6),
    }
    classes = 1 / (1 - chance)
    return {
        "patient": arm.patient,
        "network": arm.network,
        "remedy": arm.remedy.name,
        "changes": arm.remedy.kind,
        "shallow": arm.shallow,
        "seed": seed,
        "steps": arm.config.steps,
        "learning_rate": arm.config.learning_rate,
        **values,
        **({"diverged_at": end["diverged_at"]} if diverged else {}),
        "trained": not diverged and bool(end["train_loss"] < np.log(classes) / 2),
        "verdict": str(verdict["word"][seed]),
        "probability": round(float(verdict["probability"][seed]), 4),
        "gradients": first_steps(run),
    }


def _panel(patient: Patient) -> list[tuple[str, str, list[float | None]]]:
    """Title, kind and errors [seed] in percent of each remedy."""
    return [
        (remedy.title, remedy.kind, [_in_percent(error) for error in patient.errors(remedy.name)])
        for remedy in (UNTREATED, *REMEDIES)
        if remedy.name in patient.arms
    ]


def _references(patient: Patient) -> dict[str, list[float | None]]:
    """Errors [seed] in percent of what the others are compared with, by name."""
    rows = [patient.arms[UNTREATED.name], patient.shallow, patient.arms.get("shortcuts", [])]
    return {some[0]["network"]: [_in_percent(row["training_error"]) for row in some] for some in rows if some}


def _columns(results: Sequence[Mapping[str, Any]]) -> dict[str, list[Point]]:
    """A point for each run, by the label of a statistic: at the first and at the last measured step."""
    titles = {remedy.name: remedy.title for remedy in (UNTREATED, *REMEDIES)}
    several = len({row["patient"] for row in results if not row["shallow"]}) > 1
    columns: dict[str, list[Point]] = {}
    for name, label in STATISTICS.items():
        for which, when in ((0, "at initialisation"), (-1, f"after {_last_step(results)} steps")):
            points = columns[f"{label}\n{when}"] = []
            for row in results:
                value = row["gradients"][which][name] if row["gradients"] else None
                if value is not None and value > 0 and row["training_error"] is not None:
                    title = row["network"] if row["shallow"] else titles[row["remedy"]]
                    title = f"{row['patient']}, {title}" if several and not row["shallow"] else title
                    points.append(Point(title, row["changes"], value, 100 * row["training_error"]))
    return columns


def _last_step(results: Sequence[Mapping[str, Any]]) -> int:
    return max((row["gradients"][-1]["step"] for row in results if row["gradients"]), default=0)


def _caption(results: Sequence[Mapping[str, Any]]) -> str:
    """What the figure of statistics shows, with their rank correlations with the error."""
    said = []
    for label, points in _columns(results).items():
        values, errors = [point.x for point in points], [point.y for point in points]
        if len(set(values)) > 2 and len(set(errors)) > 2:
            rank: Any = spearmanr(values, errors)
            said.append(f"{label.replace(chr(10), ' ')} {rank.statistic:+.2f}")
    ranks = f" Rank correlation with the error: {'; '.join(said)}." if said else ""
    return f"Final training error against the gradients of the first steps, a point for each run.{ranks}"


def _line(arm: str, rows: Sequence[Mapping[str, Any]], patient: Patient | None) -> list[str]:
    training = [row["training_error"] for row in rows if row["training_error"] is not None]
    test = [row["test_error"] for row in rows if row["test_error"] is not None]
    share = patient.closed(arm) if patient else None
    trains = sum(row["verdict"] == "trains" for row in rows)
    return [
        rows[0]["network"],
        arm,
        percent(training) if training else "",
        percent(test) if test else "",
        "" if share is None else f"{100 * share:.0f} %",
        patient.outcome(arm) if patient and arm != UNTREATED.name else "",
        *(_geometric(rows, name, which) for name in STATISTICS for which in (0, -1)),
        f"{trains} of {len(rows)}",
    ]


def _geometric(rows: Sequence[Mapping[str, Any]], name: str, which: int) -> str:
    values = [row["gradients"][which][name] for row in rows if row["gradients"]]
    known = [value for value in values if value]
    return f"{np.exp(np.mean(np.log(known))):.2g}" if known else ""


def _in_percent(error: float | None) -> float | None:
    return None if error is None else 100 * error
