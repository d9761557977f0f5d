"""Detect diverged weights."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from cnnjax.errors import Diverged


def check_weights(variables: Any, step: int, out: Path) -> None:
    """Raise Diverged if the squares of the weights, or of BatchNorm's averages, add up to no float32 number.

    The loss may not show it: weights beyond 1e19 make dead ReLUs or infinite variances; the network's outputs
    are then constant, and its error is that of guessing.
    """
    for name, tree in variables.items():
        with np.errstate(over="ignore", invalid="ignore"):
            squares = sum(float(np.vdot(leaf, leaf)) for leaf in jax.tree.leaves(tree))
        if not squares <= np.finfo(np.float32).max:
            raise Diverged(
                f"{name} are too large for float32 after step {step} in {out}: training diverged and stops "
                "here; any checkpoints are from before that. Try a lower learning rate or a longer warm-up"
            )


def check_first_step(out: Path, metrics: Mapping[str, Any]) -> None:
    """Raise Diverged if a metric [step] of the first step is not finite; nothing was written then."""
    for name, values in metrics.items():
        if not np.isfinite(values[0]):
            raise Diverged(
                f"{name} is {values[0]} in the first step of {out}: check the loss, the inputs and the "
                "initial weights; nothing was written"
            )
