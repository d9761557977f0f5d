"""Errors and seconds of each arm, and what each part of the recipe is worth."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cnnjax.files import read_jsonl
from cnnjax.report.paired import CONFIDENCE, by_sign, difference, interval
from cnnjax.report.speedrun import errors_against_seconds

from ..runner import Findings, percent
from .settings import FAST, Arm


def seconds_of(run: Path) -> float:
    """How long a run's steps took, without compilation and test; resumed runs have a gap, which counts."""
    times = [line["time"] for line in read_jsonl(run / "metrics.jsonl") if "train_loss" in line]
    return (times[-1] - times[0]) * len(times) / max(1, len(times) - 1)


def conclude(
    arms: Sequence[Arm], seeds: int, ends: Mapping[str, Mapping[str, float]], found: Findings, out: Path
) -> None:
    """Write rows, tables and the figure; `ends` are the final metrics by run."""
    errors = {arm: [ends[arm.run(seed)]["test_error"] for seed in range(seeds)] for arm in arms}
    seconds = {arm: [seconds_of(out / arm.run(seed)) for seed in range(seeds)] for arm in arms}
    whole = [arm for arm in arms if arm.whole]
    found.results += [
        {
            "arm": arm.title if arm.whole else f"without {arm.title}",
            "passes": arm.passes,
            "seed": seed,
            "test_error": round(errors[arm][seed], 6),
            "seconds": round(seconds[arm][seed], 3),
        }
        for arm in arms
        for seed in range(seeds)
    ]
    rows = [
        [arm.title, str(arm.passes), f"{np.median(seconds[arm]):.1f}", percent(errors[arm], 2)]
        for arm in whole
    ]
    caption = (
        "Test error in percent, mean and standard deviation over seeds, and seconds of a run's steps, "
        "median, without compilation and test."
    )
    found.tables[caption] = (["", "passes", "seconds", "test error"], rows)
    losses = _losses(errors, found)
    curves: dict[str, list[tuple[float, float, float]]] = {}
    for arm in whole:
        curves.setdefault(arm.title, []).append((float(np.median(seconds[arm])), *interval(errors[arm])))
    caption = (
        "Test error against seconds of training, and the points that are lost without each part of the "
        f"recipe. Bars: {CONFIDENCE:.0%} intervals over {seeds} seeds."
    )
    found.figures[caption] = errors_against_seconds(curves, losses, out / "speedrun")


def _losses(errors: Mapping[Arm, Sequence[float]], found: Findings) -> dict[str, tuple[float, float]]:
    """What each part is worth, by title: the mean difference of the error, and half its interval."""
    losses = {}
    of_parts = found.others.setdefault("without", [])
    fast = {arm.passes: own for arm, own in errors.items() if arm.title == FAST}
    for arm, own in errors.items():
        if arm.whole:
            continue
        lost = losses[arm.title] = difference(own, fast[arm.passes])
        row = {"part": arm.title, "passes": arm.passes, "loss": round(lost.mean, 6), "interval": lost.bounds}
        of_parts.append(row)
    caption = (
        "Points of test error that a part of the recipe is worth: mean of the differences between runs of "
        "the same seed without and with it, and their 95 % interval (Student's)."
    )
    cells = [[part, f"{100 * mean:.2f} ± {100 * half:.2f}"] for part, (mean, half) in losses.items()]
    found.tables[caption] = (["part", "points lost without it"], cells)
    return losses


def answer(of_parts: Sequence[Mapping[str, Any]]) -> str:
    """What the parts are worth, in words: only what an interval without 0 supports."""
    if not all(row["interval"] for row in of_parts):
        return "Answer. One seed tells nothing about what a part is worth."
    clear, harmful, unclear = by_sign(of_parts)

    def listed(rows: Sequence[Mapping[str, Any]]) -> str:
        return ", ".join(f"{row['part']} ({100 * row['loss']:+.2f} points)" for row in rows) or "nothing"

    return (
        f"Answer. Without it the error is higher: {listed(clear)}. Lower: {listed(harmful)}. "
        f"No clear difference: {listed(unclear)}."
    )
