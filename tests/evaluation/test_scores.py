"""Scores of probabilities against cases worked by hand and scikit-learn's."""

import numpy as np
import pytest

from cnnjax.errors import UserError
from cnnjax.evaluation import (
    brier_score,
    calibration_error,
    compare_paired,
    confusion_matrix,
    confusions,
    disagreement,
    fit_temperature,
    negative_log_likelihood,
    per_class,
    reliability,
    temper,
    top_k_error,
)

P = np.array([[0.7, 0.2, 0.1], [0.3, 0.6, 0.1], [0.5, 0.1, 0.4], [0.1, 0.2, 0.7]])
Y = np.array([0, 0, 2, 2])
DRAW = np.random.default_rng(0)
MANY = DRAW.dirichlet(np.ones(4), 400)
LABELS = np.array([DRAW.choice(4, p=p) for p in MANY])


def test_errors_by_hand():
    assert top_k_error(P, Y) == 0.5
    assert top_k_error(P, Y, 2) == 0
    assert negative_log_likelihood(P, Y) == pytest.approx(-np.log([0.7, 0.3, 0.4, 0.7]).mean())
    squares = [0.09 + 0.04 + 0.01, 0.49 + 0.36 + 0.01, 0.25 + 0.01 + 0.36, 0.01 + 0.04 + 0.09]
    assert brier_score(P, Y) == pytest.approx(np.mean(squares))
    assert np.isfinite(negative_log_likelihood(np.array([[1.0, 0.0]]), np.array([1])))


def test_calibration_error_by_hand():
    """Two bins: confidence 0.5 alone in (0, 0.5], wrong; 0.7, 0.6, 0.7 in (0.5, 1], two of them right."""
    expected = 1 / 4 * abs(0 - 0.5) + 3 / 4 * abs(2 / 3 - 2 / 3)
    assert calibration_error(P, Y, bins=2) == pytest.approx(expected)
    low, high = reliability(P, Y, bins=2)
    assert (low.low, low.high, low.examples, low.accuracy) == (0, 0.5, 1, 0)
    assert (high.examples, high.confidence) == (3, pytest.approx(2 / 3))
    # 15 bins: each confidence is in a bin of its own, but for the two of 0.7, both right
    assert calibration_error(P, Y) == pytest.approx((2 * 0.3 + 0.6 + 0.5) / 4)


def test_certain_and_right_is_calibrated():
    assert calibration_error(np.eye(3), np.arange(3)) == 0
    assert calibration_error(np.eye(3), np.array([1, 2, 0])) == 1


def test_a_sharpened_classifier_is_cooled_again():
    """Labels were drawn from MANY: the temperature that undoes the sharpening is the sharpening's inverse."""
    sharp = temper(MANY, 1 / 3)
    cooled = fit_temperature(sharp, LABELS)
    assert 2.5 < cooled < 3.5
    assert calibration_error(temper(sharp, cooled), LABELS) < calibration_error(sharp, LABELS)
    near = [negative_log_likelihood(temper(sharp, cooled * factor), LABELS) for factor in (0.98, 1, 1.02)]
    assert near[1] == min(near)
    np.testing.assert_allclose(temper(MANY, 1.0), MANY, atol=1e-12)


def test_confusions_by_hand():
    labels, said = np.array([0, 0, 0, 1, 1, 2]), np.array([0, 1, 1, 1, 0, 1])
    matrix = confusion_matrix(said, labels, 4)
    np.testing.assert_array_equal(matrix, [[1, 2, 0, 0], [1, 1, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0]])
    found = per_class(matrix)
    np.testing.assert_allclose(found.precision, [1 / 2, 1 / 4, 0, 0])
    np.testing.assert_allclose(found.recall, [1 / 3, 1 / 2, 0, 0])
    np.testing.assert_array_equal(found.support, [3, 2, 1, 0])
    assert confusions(matrix, 2) == [(0, 1, 2), (1, 0, 1)]
    assert len(confusions(matrix)) == 3


def test_scores_are_those_of_scikit_learn():
    metrics = pytest.importorskip("sklearn.metrics")
    said = MANY.argmax(1)
    assert negative_log_likelihood(MANY, LABELS) == pytest.approx(metrics.log_loss(LABELS, MANY))
    assert 1 - top_k_error(MANY, LABELS, 2) == pytest.approx(metrics.top_k_accuracy_score(LABELS, MANY, k=2))
    matrix = confusion_matrix(said, LABELS, 4)
    np.testing.assert_array_equal(matrix, metrics.confusion_matrix(LABELS, said))
    precision, recall, _, support = metrics.precision_recall_fscore_support(LABELS, said, zero_division=0)
    for ours, theirs in zip(per_class(matrix), (precision, recall, support), strict=True):
        np.testing.assert_allclose(ours, theirs)


def test_pairs_by_hand():
    """30 examples: 6 that only the first gets wrong, 1 that only the second does, 2 that both do."""
    first = np.array([True] * 6 + [False] + [True] * 2 + [False] * 21)
    second = np.array([False] * 6 + [True] + [True] * 2 + [False] * 21)
    found = compare_paired(first, second)
    assert (found.only_first_wrong, found.only_second_wrong) == (6, 1)
    assert found.difference == pytest.approx(-5 / 30)
    assert found.p_value == pytest.approx(2 * (1 + 7) / 2**7)
    each = second.astype(float) - first
    assert found.high - found.low == pytest.approx(2 * 1.959964 * each.std() / np.sqrt(30), rel=1e-6)
    same = compare_paired(first, first)
    assert same == (0, 0, 0, 0, 0, 1)
    with pytest.raises(UserError, match="must be of the same examples"):
        compare_paired(first, second[:4])


def test_disagreement_is_the_mean_over_pairs():
    one, other, third = np.eye(2)[[0, 0, 1, 1]], np.eye(2)[[0, 1, 1, 1]], np.eye(2)[[1, 1, 0, 0]]
    assert disagreement([one, other]) == 0.25
    assert disagreement([one, other, third]) == pytest.approx((0.25 + 1 + 0.75) / 3)
