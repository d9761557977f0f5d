"""Arms beside a base, seed by seed: mean difference, Student's interval, and what it supports."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy.special import stdtrit

CONFIDENCE = 0.95
EXACT = 16  # pairs whose swaps are all tried


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Mean, and half the width of Student's 95 % interval for it; infinite for a single value."""
    if len(values) < 2:
        return float(np.mean(values)), float("inf")
    factor = stdtrit(len(values) - 1, (1 + CONFIDENCE) / 2)  # Student's quantile
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


def sign_flip(differences: Sequence[float]) -> float:
    """p-value of differences [pair] by the sign-flip test that either arm is as likely the better one.

    It is the share of the ways to swap the arms of pairs whose mean is at least as far from 0 (Fisher 1935,
    The Design of Experiments, section 21): of all ways up to 16 pairs, of 2^16 beyond. It is never below
    `smallest_p`.
    """
    values = np.asarray(differences, np.float64)
    reached = np.abs(_swaps(len(values)) @ values)
    return float(np.mean(reached >= reached[0] - 1e-9 * np.abs(values).sum()))  # ties, however rounded


def smallest_p(pairs: int) -> float:
    """The least p-value that the sign-flip test can give of so many pairs: 2 / 2^pairs, up to 16."""
    return 2.0 / 2**pairs if pairs <= EXACT else 1.0 / 2**EXACT


def _swaps(pairs: int) -> np.ndarray:
    """Signs [way, pair], the first way all 1: every way, or the first of many drawn ones."""
    if pairs <= EXACT:
        bits = np.arange(2**pairs)[:, None] >> np.arange(pairs) & 1
    else:
        bits = np.random.default_rng(0).integers(0, 2, (2**EXACT, pairs))
        bits[0] = 0
    return 1.0 - 2 * bits


Rows = list[Mapping[str, Any]]


def by_sign(rows: Sequence[Mapping[str, Any]]) -> tuple[Rows, Rows, Rows]:
    """Split rows with an `interval` [low, high] into those above 0, below 0, and those that hold 0."""
    above = [row for row in rows if row["interval"][0] > 0]
    below = [row for row in rows if row["interval"][1] < 0]
    return above, below, [row for row in rows if row not in above and row not in below]
