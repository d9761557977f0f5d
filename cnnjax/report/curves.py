"""Error against training step, as in figures 1 and 6 of He et al. 2015."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from cnnjax.files import read_jsonl
from cnnjax.report import figure

TITLES = {"plain": "plain", "resnet": "residual"}
POINTS = 40  # along a training curve; each is the mean of the steps since the point before


@figure.styled
def error_curves(
    panels: Mapping[str, Mapping[str, Sequence[Path]]], stem: Path, title: str
) -> dict[str, Path]:
    """Draw training error (thin) and test error (bold): a panel per family, a colour per network.

    Args:
        panels: family to label, from the shallowest network to the deepest, to the metrics.jsonl of
            each seed. Lines are means over seeds, bands reach from the lowest to the highest.
        stem: the figure's path without an ending.
        title: above the panels.

    Returns:
        The paths of the files by their endings.
    """
    colours = figure.shades(list(dict.fromkeys(label for family in panels.values() for label in family)))
    drawing, axes = figure.panels(1, len(panels), 5.2, 4.4, sharex=True, sharey=True)
    top = 0.0
    for axis, (family, nets) in zip(axes[0], panels.items(), strict=True):
        for label, files in nets.items():
            runs = [read_jsonl(file) for file in files]
            train_steps, train = _means([_series(run, "train_error") for run in runs])
            test_steps, test = _means([_series(run, "test_error") for run in runs], points=None)
            _draw(axis, train_steps, train, colours[label], 1.0, None)
            _draw(axis, test_steps, test, colours[label], 2.6, label)
            # The first tenth is every net's fall from chance: it would flatten what the figure is about.
            settled = [
                values[:, steps > train_steps[-1] / 10]
                for steps, values in ((train_steps, train), (test_steps, test))
            ]
            top = max(top, *(values.max() for values in settled if values.size))
        axis.set_title(TITLES.get(family, family))
        axis.set_xlabel("step")
        axis.legend(frameon=False, loc="best")
    axes[0][0].set_ylim(0, min(100, 110 * top))
    axes[0][0].set_xlim(left=0)
    axes[0][0].set_ylabel("error (%)")
    seeds = max(len(files) for nets in panels.values() for files in nets.values())
    band = f", band: {seeds} seeds" if seeds > 1 else ""
    return figure.save(drawing, stem, f"{title}   (thin: training, bold: test{band})")


def _series(lines: Sequence[Mapping[str, float]], name: str) -> np.ndarray:
    """[2, point]: steps and values of one metric."""
    return np.array([(line["step"], line[name]) for line in lines if name in line], float).T


def _means(runs: Sequence[np.ndarray], points: int | None = POINTS) -> tuple[np.ndarray, np.ndarray]:
    """Steps [point] and values [seed, point], averaged to fewer points per curve."""
    length = min(run.shape[1] for run in runs)
    size = max(1, length // points) if points else 1
    whole = length // size * size
    steps = runs[0][0, :whole].reshape(-1, size).mean(1)
    return steps, np.stack([run[1, :whole].reshape(-1, size).mean(1) for run in runs])


def _draw(axis, steps: np.ndarray, values: np.ndarray, colour, width: float, label: str | None) -> None:
    axis.plot(steps, 100 * values.mean(0), color=colour, linewidth=width, label=label, solid_capstyle="round")
    if len(values) > 1:
        axis.fill_between(
            steps, 100 * values.min(0), 100 * values.max(0), color=colour, alpha=0.18, linewidth=0
        )
