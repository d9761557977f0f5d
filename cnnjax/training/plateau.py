"""A learning rate that drops when tests stop improving. It follows from the tests so far; none is saved."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

LEAST = 1e-4
"""The relative improvement that counts, PyTorch's."""


def drops(errors: Sequence[float], patience: int) -> int:
    """How often the rate has dropped after tests with these errors.

    It drops after more than `patience` tests in a row without an error below the least so far, and then they
    are counted anew: as `torch.optim.lr_scheduler.ReduceLROnPlateau` does.
    """
    best, waited, count = math.inf, 0, 0
    for error in errors:
        if error < best * (1 - LEAST):
            best, waited = error, 0
        else:
            waited += 1
        if waited > patience:
            waited, count = 0, count + 1
    return count


def tested(lines: Sequence[Mapping[str, Any]]) -> list[float]:
    """The test error, or without one the test loss, of each test that metrics.jsonl has a line of."""
    return [line.get("test_error", line["test_loss"]) for line in lines if "test_loss" in line]
