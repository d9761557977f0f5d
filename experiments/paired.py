"""Arms beside a base, seed by seed: mean difference, Student's interval, and what it supports."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy.stats import t as student

CONFIDENCE = 0.95


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Mean, and half the width of Student's 95 % interval for it; infinite for a single value."""
    if len(values) < 2:
        return float(np.mean(values)), float("inf")
    factor = student.ppf((1 + CONFIDENCE) / 2, len(values) - 1)
    return float(np.mean(values)), float(factor * np.std(values, ddof=1) / len(values) ** 0.5)


class Difference(NamedTuple):
    """Of an arm and its base: the mean over seeds, and half the width of its interval."""

    mean: float
    half: float

    @property
    def bounds(self) -> list[float] | None:
        """The interval's ends, rounded; None where one seed has none."""
        if not np.isfinite(self.half):
            return None
        return [round(self.mean - self.half, 6), round(self.mean + self.half, 6)]


def difference(arm: Sequence[float], base: Sequence[float]) -> Difference:
    """Of two arms' values [seed]: pairs have the same initial weights and images where the nets do."""
    return Difference(*interval([own - other for own, other in zip(arm, base, strict=True)]))


Rows = list[Mapping[str, Any]]


def by_sign(rows: Sequence[Mapping[str, Any]]) -> tuple[Rows, Rows, Rows]:
    """Split rows with an `interval` [low, high] into those above 0, below 0, and those that hold 0."""
    above = [row for row in rows if row["interval"][0] > 0]
    below = [row for row in rows if row["interval"][1] < 0]
    return above, below, [row for row in rows if row not in above and row not in below]
