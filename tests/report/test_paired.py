import numpy as np
import pytest
from scipy.stats import binomtest, permutation_test

from cnnjax.report.paired import by_sign, difference, interval, sign_flip, smallest_p


def test_students_interval():
    mean, half = interval([1.0, 2.0, 3.0, 6.0])
    assert mean == 3
    assert half == pytest.approx(3.182446 * np.sqrt(14 / 3) / 2, rel=1e-6)  # t of 3 degrees of freedom
    assert interval([0.5]) == (0.5, float("inf"))


def test_differences_are_paired():
    """A spread that arms share cancels: here each seed differs by 1 to 3, whatever its own level."""
    found = difference([11.0, 102.0, 1003.0], [10.0, 100.0, 1000.0])
    assert found.mean == 2
    assert found.half == pytest.approx(4.302653 / np.sqrt(3), rel=1e-6)  # 2 degrees of freedom
    assert found.bounds == pytest.approx([2 - found.half, 2 + found.half], abs=1e-6)
    assert difference([1.0], [0.0]).bounds is None


def test_only_an_interval_without_zero_has_a_sign():
    rows = [{"interval": bounds} for bounds in ([0.1, 0.2], [-0.2, -0.1], [-0.1, 0.2], [0.0, 0.1])]
    assert by_sign(rows) == (rows[:1], rows[1:2], rows[2:])


def test_signs_are_flipped_in_all_ways():
    """Three pairs can be swapped in 8 ways, whose means are as far from 0 two by two."""
    assert sign_flip([1.0, 2.0, 4.0]) == smallest_p(3) == 2 / 8
    assert sign_flip([1.0, -2.0, 4.0]) == 6 / 8  # |sum| 3 of 7, 5, 3, 1
    assert sign_flip([0.1, 0.2, 0.3, -0.6]) == 1  # a mean of 0, though not in binary
    assert sign_flip([0.0, 0.0]) == 1
    assert sign_flip([0.0, 1.0, 1.0]) == 1 / 2
    assert [smallest_p(pairs) for pairs in (1, 2, 5, 6)] == [1, 1 / 2, 1 / 16, 1 / 32]


def test_the_flips_are_those_of_scipy():
    values = np.random.default_rng(0).normal(0.5, size=9)
    found = permutation_test((values,), np.mean, permutation_type="samples", n_resamples=2**9)
    assert sign_flip(values) == pytest.approx(found.pvalue, abs=1e-12)


def test_many_pairs_are_flipped_in_ways_that_are_drawn():
    """30 pairs: the sum of signs is binomial, 2 P(X >= 20) of 30."""
    signs = np.repeat([1.0, -1.0], (20, 10))
    assert sign_flip(signs) == pytest.approx(binomtest(20, 30).pvalue, abs=4 * np.sqrt(0.1 * 0.9 / 2**16))
    assert sign_flip(np.ones(30)) == smallest_p(30) == 2**-16
