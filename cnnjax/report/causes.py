"""Remedies for a deep net: its final error with each, and against what its gradients were at first."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from cnnjax.report import figure

COLOURS = {"reference": "#444444", "training": "#0072b2", "network": "#d55e00", "shortcuts": "#009e73"}
"""Of what a remedy changes."""
LABELS = {
    "reference": "nothing changed",
    "training": "training changed",
    "network": "plain net changed",
    "shortcuts": "with shortcuts (controls)",
}
STYLES = ("-", "--", ":")
MARKS = "osD^vP*X<>ph"


@dataclasses.dataclass(frozen=True)
class Point:
    """One run: a title for the legend, a key of `COLOURS`, and where it is."""

    title: str
    kind: str
    x: float
    y: float


@figure.styled
def errors_by_remedy(
    panels: Mapping[str, Sequence[tuple[str, str, Sequence[float | None]]]],
    references: Mapping[str, Mapping[str, Sequence[float | None]]],
    stem: Path,
    chance: float,
) -> dict[str, Path]:
    """A panel for each net: a row of points for each remedy, and vertical lines for what it is compared with.

    Args:
        panels: net to title, kind and final errors [seed] of each remedy; errors in percent, None for a
            divergence, drawn as a cross at `chance`.
        references: net to errors [seed] by name; bands from the least to the largest.
        stem: the figure's path without an ending.
        chance: the error of a guess, in percent.
    """
    longest = max(len(rows) for rows in panels.values())
    drawing, axes = figure.panels(1, len(panels), 9.6, 1.4 + 0.3 * longest, sharex=True)
    for axis, (name, rows) in zip(axes[0], panels.items(), strict=True):
        for style, (reference, errors) in zip(STYLES, references[name].items(), strict=False):
            if known := [error for error in errors if error is not None]:
                axis.axvspan(min(known), max(known), color="black", alpha=0.06, linewidth=0)
                axis.axvline(
                    float(np.mean(known)), color="black", linewidth=1, linestyle=style, label=reference
                )
        shown = set()
        for place, (_, kind, errors) in enumerate(rows):
            label = {"label": LABELS[kind]} if kind not in shown else {}
            shown.add(kind)
            known = [error for error in errors if error is not None]
            axis.plot(known, [place] * len(known), "o", color=COLOURS[kind], markersize=6, alpha=0.8, **label)
            if len(known) < len(errors):
                axis.plot(chance, place, "x", color=COLOURS[kind], markersize=8, markeredgewidth=2)
        axis.set_yticks(range(len(rows)), [title for title, _, _ in rows])
        axis.invert_yaxis()
        axis.set_xlim(0, chance + 4)
        axis.set_xlabel("final training error (%); cross: a seed diverged")
        axis.set_title(name)
        axis.legend(frameon=False, fontsize=9, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return figure.save(drawing, stem)


@figure.styled
def against_statistics(columns: Mapping[str, Sequence[Point]], stem: Path, label: str) -> dict[str, Path]:
    """A panel for each statistic, on a logarithmic axis: a point for each run.

    Args:
        columns: the axis's label to the runs of which it is known.
        stem: the figure's path without an ending.
        label: of the vertical axis.
    """
    rows = -(-len(columns) // 2)
    drawing, axes = figure.panels(rows, 2, 5.2, 3.2, sharey=True)
    titles = dict.fromkeys((point.title, point.kind) for points in columns.values() for point in points)
    counts: dict[str, int] = {}
    marks = {}
    for title, kind in titles:  # those of a colour have marks of their own
        counts[kind] = counts.get(kind, -1) + 1
        marks[title] = MARKS[counts[kind] % len(MARKS)]
    shown = {}
    for axis, (name, points) in zip(axes.flat, columns.items(), strict=False):
        for point in points:
            style = {"color": COLOURS[point.kind], "markersize": 6, "alpha": 0.75, "label": point.title}
            (shown[point.title],) = axis.plot(point.x, point.y, marks[point.title], **style)
        axis.set_xscale("log")
        axis.set_xlabel(name)
    for row in axes:
        row[0].set_ylabel(label)
    axes[0][-1].legend(
        [shown[title] for title, _ in titles],
        [title for title, _ in titles],
        frameon=False,
        fontsize=9,
        loc="upper left",
        bbox_to_anchor=(1.0, 1.0),
    )
    return figure.save(drawing, stem)
