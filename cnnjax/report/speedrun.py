"""Error against seconds, and what a recipe's parts are worth."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from cnnjax.report import figure
from cnnjax.report.intervals import draw_intervals


@figure.styled
def errors_against_seconds(
    curves: Mapping[str, Sequence[tuple[float, float, float]]],
    losses: Mapping[str, tuple[float, float]],
    stem: Path,
) -> dict[str, Path]:
    """Two panels: error against seconds of training, and points lost without each part.

    Args:
        curves: network to points of seconds, error, and half the width of its interval.
        losses: part to mean difference of the error, and half the width of its interval.
        stem: the figure's path without an ending.

    Returns:
        The paths of the files by their endings.
    """
    drawing, axes = figure.panels(1, 2, 5.4, 3.8)
    left, right = axes[0]
    for colour, (name, points) in zip(figure.shades(list(curves)).values(), curves.items(), strict=True):
        seconds, mean, half = np.array(sorted(points)).T
        half = np.where(np.isfinite(half), half, 0)
        left.errorbar(seconds, 100 * mean, 100 * half, color=colour, marker="o", capsize=3, label=name)
    left.set_xscale("log")
    left.xaxis.set_major_formatter("{x:g}")
    left.xaxis.set_minor_formatter(lambda seconds, _: f"{seconds:g}" if f"{seconds:e}"[0] in "25" else "")
    left.set_xlabel("seconds of training")
    left.set_ylabel("test error (%)")
    left.legend(frameon=False)
    draw_intervals(right, losses)
    right.set_xlabel("points of test error lost without it")
    return figure.save(drawing, stem)
