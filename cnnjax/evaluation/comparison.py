"""Two classifiers on the same examples: is one better, or are its examples only luckier?"""

from collections.abc import Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np
from scipy.stats import binomtest, norm

from cnnjax.errors import UserError


class Paired(NamedTuple):
    """What the second classifier's errors are beside the first's, on the same examples.

    Attributes:
        difference: error of the second minus that of the first.
        low, high: its interval over examples, from the paired differences (`mean_interval`).
        only_first_wrong, only_second_wrong: numbers of examples.
        p_value: of McNemar's exact test that each of the two is as often right alone (McNemar 1947).
    """

    difference: float
    low: float
    high: float
    only_first_wrong: int
    only_second_wrong: int
    p_value: float


def mean_interval(values: np.ndarray, confidence: float = 0.95) -> tuple[float, float, float]:
    """The mean of values [example], and its normal interval over examples (Wald's)."""
    mean = float(np.mean(values))
    reach = float(norm.ppf((1 + confidence) / 2) * np.std(values) / np.sqrt(len(values)))
    return mean, mean - reach, mean + reach


def compare_paired(first_wrong: np.ndarray, second_wrong: np.ndarray, confidence: float = 0.95) -> Paired:
    """Compare errors, booleans [example], of two classifiers on the same examples.

    The interval is over examples: what other test images would have given, not other seeds.

    Raises:
        UserError: they are not of the same number of examples.
    """
    first, second = np.asarray(first_wrong, bool), np.asarray(second_wrong, bool)
    if first.shape != second.shape or first.ndim != 1 or not len(first):
        raise UserError(f"errors of shape {first.shape} and {second.shape}: must be of the same examples")
    only_first, only_second = int((first & ~second).sum()), int((second & ~first).sum())
    discordant = only_first + only_second
    p_value = float(binomtest(only_first, discordant).pvalue) if discordant else 1.0
    interval = mean_interval(second.astype(np.float64) - first, confidence)
    return Paired(*interval, only_first, only_second, p_value)


def disagreement(probabilities: Sequence[np.ndarray] | np.ndarray) -> float:
    """Share of examples of which two members say different classes, mean over pairs.

    `probabilities` are [member, example, class], of two members or more.
    """
    said = np.asarray(probabilities).argmax(-1)
    return float(np.mean([np.mean(one != other) for one, other in combinations(said, 2)]))
