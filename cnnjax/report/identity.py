"""A deep net that starts as a shallow one: its error as it trains further, and how far its kernels move."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from cnnjax.files import read_jsonl
from cnnjax.report import figure

POINTS = 15  # along a curve; each is the mean of the steps since the point before


COLOURS = {
    (False, False, False): "#0072b2",
    (False, True, False): "#56b4e9",
    (True, False, False): "#d55e00",
    (True, False, True): "#e69f00",
    (True, True, False): "#009e73",
}
"""Of a start, by whether it is deep, without BatchNorm, calibrated."""


@dataclasses.dataclass(frozen=True)
class Curve:
    """The runs from one start.

    Attributes:
        label: for the legend.
        kind: a key of `COLOURS`.
        files: metrics.jsonl of each seed.
        diverged: whether one of them did; the curve ends there, with a cross.
    """

    label: str
    kind: tuple[bool, bool, bool]
    files: Sequence[Path]
    diverged: bool = False


@figure.styled
def further_training(
    panels: Mapping[str, Sequence[Curve]], scratch: Mapping[str, Sequence[float]], stem: Path
) -> dict[str, Path]:
    """A panel for each rate: training error against step, and a line where the net from scratch ends.

    Args:
        panels: title to curves.
        scratch: label to the final errors [seed], in percent, of what was trained from scratch.
        stem: the figure's path without an ending.
    """
    drawing, axes = figure.panels(1, len(panels), 3.8, 4.0, sharey=True)
    shown: dict[str, object] = {}
    # At chance, what diverges would flatten what the figure is about.
    whole = [curve for curves in panels.values() for curve in curves if not curve.diverged]
    means = [_smooth([_errors(file) for file in curve.files])[1].mean(0) for curve in whole]
    top = 1.1 * max(np.max(part, initial=0) for part in (*means, *scratch.values()))
    for axis, (title, curves) in zip(axes[0], panels.items(), strict=True):
        for label, ends in scratch.items():
            style = {"color": "black", "linestyle": ":", "linewidth": 1.4, "label": label}
            shown[label] = axis.axhline(np.mean(ends), **style)
            axis.axhspan(min(ends), max(ends), color="black", alpha=0.08, linewidth=0)
        for curve in curves:
            steps, errors = _smooth([_errors(file) for file in curve.files])
            colour, mean = COLOURS[curve.kind], errors.mean(0)
            style = {"linestyle": "--" if curve.kind[1] else "-", "linewidth": 1.6, "label": curve.label}
            (shown[curve.label],) = axis.plot(steps, mean, color=colour, **style)
            axis.fill_between(steps, errors.min(0), errors.max(0), color=colour, alpha=0.15, linewidth=0)
            if curve.diverged:
                at = steps[-1:], np.minimum(mean[-1:], top)
                axis.plot(*at, "x", color=colour, markersize=9, markeredgewidth=2, clip_on=False)
        axis.set_title(title, fontsize=10, pad=12)  # room for crosses
        axis.set_xlabel("further step")
        axis.set_xlim(left=0)
    axes[0][0].set_ylim(0, top)
    axes[0][0].set_ylabel("training error (%)")
    axes[0][-1].legend(
        list(shown.values()),
        list(shown),
        frameon=False,
        fontsize=9,
        loc="center left",
        bbox_to_anchor=(1.0, 0.5),
    )
    return figure.save(drawing, stem, "bands: all seeds; crosses: one of them diverged")


@figure.styled
def distances(columns: Mapping[str, Mapping[str, np.ndarray]], stem: Path) -> dict[str, Path]:
    """A panel for each start: distance of the inserted kernels from Dirac against their place.

    Args:
        columns: start to rate to distances [seed, layer].
        stem: the figure's path without an ending.
    """
    drawing, axes = figure.panels(1, len(columns), 4.0, 3.6, sharey=True)
    colours = figure.shades(list(dict.fromkeys(rate for rates in columns.values() for rate in rates)))
    for axis, (start, rates) in zip(axes[0], columns.items(), strict=True):
        for rate, values in rates.items():
            layers = np.arange(1, values.shape[1] + 1)
            axis.plot(layers, values.mean(0), color=colours[rate], marker=".", linewidth=1.2, label=rate)
            axis.fill_between(
                layers, values.min(0), values.max(0), color=colours[rate], alpha=0.18, linewidth=0
            )
        axis.set_yscale("log")
        axis.set_title(start, fontsize=9)
        axis.set_xlabel("inserted layer, from input to output")
    axes[0][0].set_ylabel("distance from Dirac")
    axes[0][0].legend(frameon=False, fontsize=9)
    return figure.save(drawing, stem)


def _errors(file: Path) -> np.ndarray:
    """Training error [step] in percent."""
    lines = read_jsonl(file) if file.exists() else []
    return np.array([100 * line["train_error"] for line in lines if "train_error" in line])


def _smooth(runs: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Steps [point] and errors [seed, point], averaged to `POINTS` points."""
    length = min(map(len, runs))
    size = max(1, length // POINTS)
    whole = length // size * size
    steps = np.arange(1, whole + 1).reshape(-1, size).mean(1)
    return steps, np.stack([run[:whole].reshape(-1, size).mean(1) for run in runs])
