"""Errors of damaged networks: without single blocks, without several, and with blocks in another order."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cnnjax.report import figure

MARKS = "osD^vP*X"


def styles(nets: Sequence[str]) -> dict[str, dict[str, Any]]:
    """A colour and a mark for each network."""
    return {
        name: {"color": colour, "marker": MARKS[number % len(MARKS)]}
        for number, (name, colour) in enumerate(figure.categories(nets).items())
    }


@figure.styled
def single_blocks(
    panels: Mapping[str, Mapping[str, tuple[np.ndarray, np.ndarray]]], stem: Path, chance: float
) -> dict[str, Path]:
    """A panel for each title: error without each block against the block's place, bars over seeds.

    Args:
        panels: title to network to the error of the whole network [seed] and without each block
            [seed, block].
        stem: the figure's path without an ending.
        chance: the error of a guess.
    """
    drawing, axes = figure.panels(1, len(panels), 5.2, 4.0, sharex=True, sharey=True)
    for axis, (title, nets) in zip(axes[0], panels.items(), strict=True):
        for name, style in styles(list(nets)).items():
            whole, without = nets[name]
            places = (np.arange(without.shape[1]) + 0.5) / without.shape[1]
            middle = 100 * without.mean(0)
            spread = 100 * np.abs(np.stack([without.min(0), without.max(0)]) - without.mean(0))
            axis.errorbar(
                places, middle, spread, **style, markersize=4.5, linewidth=1, elinewidth=0.8, alpha=0.9,
                label=name,
            )  # fmt: skip
            axis.axhline(100 * whole.mean(), color=style["color"], linewidth=0.8, linestyle=":")
        axis.axhline(100 * chance, color="black", linewidth=0.8, linestyle="--")
        axis.set_title(title, fontsize=10)
        axis.set_xlabel("place of the deleted block, from input to output")
        axis.set_xlim(0, 1)
        axis.set_ylim(0, 100)
    axes[0][0].set_ylabel("test error (%)")
    axes[0][-1].legend(frameon=False, fontsize=9, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure.save(drawing, stem, "dotted: the whole network, dashed: chance")


@figure.styled
def many_blocks(
    panels: Mapping[str, Mapping[str, Mapping[str, Mapping[float, np.ndarray]]]],
    stem: Path,
    chance: float,
) -> dict[str, Path]:
    """A panel for each kind of damage: error against its size, a line for each network and statistics.

    Args:
        panels: label of the horizontal axis to network to statistics, of which the first is drawn solid and
            the second dashed, to size of the damage to errors [draw]; bands are a standard deviation.
        stem: the figure's path without an ending.
        chance: the error of a guess.
    """
    drawing, axes = figure.panels(1, len(panels), 5.2, 4.0, sharey=True)
    for axis, (label, nets) in zip(axes[0], panels.items(), strict=True):
        for name, style in styles(list(nets)).items():
            first, second = nets[name].values()
            _against_size(axis, first, {**style, "label": name})
            if any(not np.array_equal(first[size], second[size]) for size in first):
                _against_size(axis, second, {**style, "linestyle": "--", "markerfacecolor": "white"})
        axis.axhline(100 * chance, color="black", linewidth=0.8, linestyle="--")
        axis.set_xlabel(label)
        axis.set_ylim(0, 100)
        if all(max(by_size) == 1 for by_size in next(iter(nets.values())).values()):
            axis.invert_xaxis()  # a correlation: the damage grows to the right
    axes[0][0].set_ylabel("test error (%)")
    axes[0][-1].legend(frameon=False, fontsize=9, loc="center left", bbox_to_anchor=(1.0, 0.5))
    first, second = next(iter(next(iter(panels.values())).values()))
    return figure.save(drawing, stem, f"solid: {first}, dashed: {second}")


def _against_size(axis, by_size: Mapping[float, np.ndarray], style: Mapping[str, Any]) -> None:
    sizes = sorted(by_size)
    mean, std = (np.array([100 * kind(by_size[size]) for size in sizes]) for kind in (np.mean, np.std))
    axis.plot(sizes, mean, **style, markersize=4.5, linewidth=1.2)
    axis.fill_between(sizes, mean - std, mean + std, color=style["color"], alpha=0.1, linewidth=0)
