import numpy as np
import pytest

from cnnjax.report.paired import by_sign, difference, interval


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
