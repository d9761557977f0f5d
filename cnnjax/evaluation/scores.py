"""Numbers of predicted probabilities [example, class] and labels [example], in numpy and float64."""

from typing import NamedTuple

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

BINS = 15
"""Of the expected calibration error (Guo et al. 2017, section 5)."""
TINY = np.finfo(np.float32).tiny
"""Least probability whose logarithm is taken."""


def top_k_error(probabilities: np.ndarray, labels: np.ndarray, k: int = 1) -> float:
    """Share of examples for which k classes or more are more probable than the right one."""
    right = np.take_along_axis(probabilities, labels[:, None], 1)
    return float(np.mean(np.sum(probabilities > right, 1) >= k))


def negative_log_likelihood(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Mean of -log of the right class's probability, in nats."""
    return float(np.mean(-log_of(probabilities)[np.arange(len(labels)), labels]))


def brier_score(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Mean squared distance of the probabilities from 1 for the right class and 0 for others, 0 to 2.

    Brier 1950, equation 2: the sum over classes.
    """
    distance = np.array(probabilities, np.float64)
    distance[np.arange(len(labels)), labels] -= 1
    return float(np.mean(np.sum(distance**2, 1)))


class Bin(NamedTuple):
    """The examples whose confidence is in (low, high]; confidence and accuracy are their means."""

    low: float
    high: float
    examples: int
    confidence: float
    accuracy: float


def reliability(probabilities: np.ndarray, labels: np.ndarray, bins: int = BINS) -> list[Bin]:
    """Bins of equal width over the largest probability that hold an example (Guo et al. 2017, section 2)."""
    confidence = np.asarray(probabilities, np.float64).max(1)
    right = probabilities.argmax(1) == labels
    number = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    found = []
    for one in np.unique(number):
        inside = number == one
        means = float(confidence[inside].mean()), float(right[inside].mean())
        found.append(Bin(one / bins, (one + 1) / bins, int(inside.sum()), *means))
    return found


def calibration_error(probabilities: np.ndarray, labels: np.ndarray, bins: int = BINS) -> float:
    """Expected calibration error: mean over examples of |accuracy - confidence| of their bin.

    Guo et al. 2017, equation 3.
    """
    found = reliability(probabilities, labels, bins)
    return sum(one.examples * abs(one.accuracy - one.confidence) for one in found) / len(labels)


def temper(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """The softmax of the logarithms over `temperature`: of logits that make these probabilities, the same."""
    return np.exp(log_softmax(log_of(probabilities) / temperature, 1))


def fit_temperature(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """The temperature from 1/20 to 20 with the least negative log-likelihood (Guo et al. 2017, section 4.2).

    Fit it on examples that are neither trained nor tested on.
    """

    def loss(exponent: float) -> float:
        return negative_log_likelihood(temper(probabilities, np.exp(exponent)), labels)

    bound = np.log(20)
    return float(np.exp(minimize_scalar(loss, bounds=(-bound, bound), method="bounded").x))  # pyright: ignore


def log_of(probabilities: np.ndarray) -> np.ndarray:
    """Their logarithms, finite where a probability was rounded to 0."""
    return np.log(np.maximum(np.asarray(probabilities, np.float64), TINY))


def confusion_matrix(predicted: np.ndarray, labels: np.ndarray, classes: int) -> np.ndarray:
    """Counts [label, predicted class]."""
    matrix = np.zeros((classes, classes), np.int64)
    np.add.at(matrix, (labels, predicted), 1)
    return matrix


class PerClass(NamedTuple):
    """Of each class, [class]: 0 where a class was never predicted, or has no examples."""

    precision: np.ndarray
    recall: np.ndarray
    support: np.ndarray
    """Examples of the class."""


def per_class(matrix: np.ndarray) -> PerClass:
    """Precision and recall from a confusion matrix [label, predicted class]."""
    right = np.diag(matrix).astype(np.float64)
    predicted, support = matrix.sum(0), matrix.sum(1)
    return PerClass(right / np.maximum(predicted, 1), right / np.maximum(support, 1), support)


def confusions(matrix: np.ndarray, most: int = 10) -> list[tuple[int, int, int]]:
    """The most frequent errors as (label, predicted class, count), the first one first."""
    wrong = matrix - np.diag(np.diag(matrix))
    order = np.argsort(-wrong, axis=None, kind="stable")[:most]
    pairs = (np.unravel_index(place, wrong.shape) for place in order)
    return [(int(i), int(j), int(wrong[i, j])) for i, j in pairs if wrong[i, j]]
