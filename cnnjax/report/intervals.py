"""Differences with their intervals, one under the other."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from cnnjax.report import figure


def draw_intervals(
    axis: Any, values: Mapping[str, tuple[float, float]], colour: str = figure.COLOURS[0]
) -> None:
    """Draw a mean and half the width of its interval for each title, in percent, beside a line at 0.

    An infinite interval has no bars.
    """
    places = np.arange(len(values))[::-1]
    mean, half = np.array(list(values.values())).reshape(-1, 2).T
    half = np.where(np.isfinite(half), half, 0)
    axis.errorbar(100 * mean, places, xerr=100 * half, fmt="o", color=colour, capsize=3)
    axis.axvline(0, color="black", linewidth=0.8)
    axis.set_yticks(places, list(values))
    axis.set_ylim(-0.6, len(values) - 0.4)


class Panel(NamedTuple):
    """A study: by arm the mean and half width, the differences [seed], and the published one if there is."""

    base: str
    intervals: Mapping[str, tuple[float, float]]
    seeds: Mapping[str, Sequence[float]]
    published: Mapping[str, float]


@figure.styled
def differences_by_study(panels: Mapping[str, Panel], stem: Path, label: str) -> dict[str, Path]:
    """Draw a panel for each study, by title: every arm's difference from the base.

    Crosses are single seeds, diamonds the published differences, where they are inside the panel. Returns the
    paths of the files, by "png" and "svg".
    """
    columns = min(2, len(panels))
    rows = -(-len(panels) // columns)
    most = max(len(panel.intervals) for panel in panels.values())
    drawing, axes = figure.panels(rows, columns, 6.6, 1.3 + 0.26 * most)
    for axis, (title, panel) in zip(axes.flat, panels.items(), strict=False):
        draw_intervals(axis, panel.intervals)
        reach = max(
            [2.0]
            + [
                100 * (abs(mean) + (half if np.isfinite(half) else 0))
                for mean, half in panel.intervals.values()
            ]
        )
        for place, arm in zip(range(len(panel.intervals))[::-1], panel.intervals, strict=True):
            own = 100 * np.array(panel.seeds[arm])
            axis.plot(own, np.full(len(own), place - 0.22), "x", color="tab:gray", markersize=4)
            if arm in panel.published:
                axis.plot(panel.published[arm], place + 0.22, "D", color="tab:orange", markersize=4.5)
        axis.set_xlim(-1.1 * reach, 1.1 * reach)
        axis.set_title(f"{title}: against {panel.base}", fontsize=10)
        axis.set_xlabel(label)
    for axis in axes.flat[len(panels) :]:
        axis.set_visible(False)
    return figure.save(drawing, stem)
