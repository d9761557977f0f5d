"""Networks with other shortcuts: their errors beside published ones, and what the shortcuts carry."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cnnjax.report import figure

MEASURED = "#0072b2"
PUBLISHED = ("#d55e00", "#009e73")
SMALLEST = 1e-16
"""Where the axis of products ends; what is 0 lies below."""


@dataclasses.dataclass(frozen=True)
class Errors:
    """A row of the figure.

    Attributes:
        title: of the network.
        measured: [seed], in percent.
        published: percent by what was published of; infinite for "fail".
    """

    title: str
    measured: Sequence[float]
    published: Mapping[str, float]


@dataclasses.dataclass(frozen=True)
class Product:
    """A line of the figure: what comes through so many blocks, relative to identities.

    Attributes:
        title: of the network.
        measured: [seed, block].
        closed_form: [seed, block]; NaN where there is none.
    """

    title: str
    measured: np.ndarray
    closed_form: np.ndarray


@figure.styled
def errors(panels: Mapping[str, Sequence[Errors]], stem: Path, fails: float) -> dict[str, Path]:
    """A panel for each title and a row for each network: its errors with each seed and as published.

    Args:
        panels: title to rows, from top to bottom.
        stem: the figure's path without an ending.
        fails: errors above this, in percent, are published as "fail".
    """
    rows = [len(each) for each in panels.values()]
    options = {"sharex": True, "height_ratios": [each + 0.8 for each in rows]}
    drawing, axes = figure.panels(len(panels), 1, 8.4, (0.36 * sum(rows) + 1.6) / len(panels), **options)
    names = list(dict.fromkeys(name for each in panels.values() for row in each for name in row.published))
    shown: dict[str, Any] = {}
    for axis, (title, each) in zip(axes[:, 0], panels.items(), strict=True):
        for place, row in enumerate(each):
            style = {"color": MEASURED, "markersize": 5, "alpha": 0.7, "label": "measured, each seed"}
            (shown[style["label"]],) = axis.plot(row.measured, [place] * len(row.measured), "o", **style)
            for name, colour, mark in zip(names, PUBLISHED, "Ds", strict=False):
                error = row.published.get(name, math.nan)
                if math.isinf(error):
                    axis.plot(fails, place, ">", color=colour, markersize=6)
                    axis.text(fails, place - 0.12, " fail", color=colour, fontsize=9, va="center", ha="left")
                else:
                    label = f"published: {name}"
                    style = {"color": colour, "markersize": 6, "markerfacecolor": "white", "label": label}
                    (shown[label],) = axis.plot(error, place, mark, **style)
        axis.set_yticks(range(len(each)), [row.title for row in each])
        axis.set_ylim(len(each) - 0.4, -0.6)
        axis.set_title(title, fontsize=10, loc="left")
    axes[-1, 0].set_xlabel("test error (%)")
    axes[-1, 0].set_xlim(left=0)
    place = {"loc": "upper center", "bbox_to_anchor": (0.3, -0.25)}
    axes[-1, 0].legend(list(shown.values()), list(shown), frameon=False, fontsize=9, ncols=3, **place)
    return figure.save(drawing, stem)


@figure.styled
def products(
    panels: Mapping[str, Mapping[str, Sequence[Product]]], stem: Path, label: str
) -> dict[str, Path]:
    """A row of panels for each kind, a column for each direction: what arrives against blocks passed.

    Args:
        panels: kind to direction to lines.
        stem: the figure's path without an ending.
        label: of the vertical axes.
    """
    columns = max(map(len, panels.values()))
    drawing, axes = figure.panels(len(panels), columns, 5.2, 3.9)
    for row, (kind, directions) in zip(axes, panels.items(), strict=True):
        for axis, (direction, lines) in zip(row, directions.items(), strict=True):
            colours = figure.categories(range(len(lines)))
            for number, line in enumerate(lines):
                _line(axis, line, colours[number])
            axis.set_yscale("log")
            bottom, top = axis.get_ylim()
            axis.set_ylim(max(bottom, SMALLEST), max(top, 2.0))
            axis.set_title(f"{kind}:\n{direction}", fontsize=10)
            axis.set_xlabel("blocks passed")
        row[0].set_ylabel(label)
        row[-1].legend(frameon=False, fontsize=9, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure.save(drawing, stem, "solid: measured, mean and range over seeds; dotted: closed form")


def _line(axis: Any, line: Product, colour: Any) -> None:
    blocks = np.arange(1, line.measured.shape[1] + 1)
    seen = np.where(line.measured > 0, line.measured, np.nan)
    mean = np.where((line.measured > 0).all(0), line.measured.mean(0), np.nan)
    title = line.title if np.isfinite(seen).any() else f"{line.title}: 0"
    axis.plot(blocks, mean, color=colour, linewidth=1.5, label=title)
    low, high = np.fmin.reduce(seen), np.fmax.reduce(seen)
    axis.fill_between(blocks, low, high, color=colour, alpha=0.15, linewidth=0)
    closed = np.where(line.closed_form > 0, line.closed_form, np.nan).mean(0)
    axis.plot(blocks, closed, ":", color=colour, linewidth=1.8)
