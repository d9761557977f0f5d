"""The gradient of residual networks by the length of paths."""

from collections.abc import Mapping
from math import comb
from pathlib import Path

import numpy as np

from cnnjax.report import figure

COLOURS = {"initial": "#d55e00", "trained": "#0072b2"}


@figure.styled
def by_length(panels: Mapping[str, Mapping[str, Mapping[str, np.ndarray]]], stem: Path) -> dict[str, Path]:
    """A column for each network: norm of one path's gradient, and shares of the lengths.

    Args:
        panels: network to state, "initial" and "trained", to arrays [seed, length] by name: `single`, the
            norms, and `exact_shares` and `sampled_shares`, of what all paths of a length bring.
        stem: the figure's path without an ending.
    """
    drawing, axes = figure.panels(2, len(panels), 4.0, 3.2, sharex="col", sharey="row")
    for (above, below), (name, states) in zip(axes.T, panels.items(), strict=True):
        lengths = np.arange(next(iter(states.values()))["single"].shape[1])
        blocks = len(lengths) - 1
        paths = np.array([comb(blocks, length) / 2**blocks for length in lengths])
        below.fill_between(lengths, 0, paths, color="black", alpha=0.12, linewidth=0, label="number of paths")
        for state, arrays in states.items():
            colour = COLOURS[state]
            _line(above, lengths, arrays["single"], colour, "-", state, marker=".")
            _line(below, lengths, arrays["sampled_shares"], colour, "--", f"{state}, single paths")
            _line(below, lengths, arrays["exact_shares"], colour, "-", f"{state}, all together")
        above.set_yscale("log")
        above.set_title(f"{name}, {blocks} blocks", fontsize=10)
        below.set_xlabel("length of the path (branches)")
    axes[1, 0].set_ylim(bottom=0)  # all panels share it, and have their lines by now
    axes[0, 0].set_ylabel("gradient along one path")
    axes[1, 0].set_ylabel("share")
    axes[0, 0].legend(frameon=False, fontsize=9)
    axes[1, -1].legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure.save(drawing, stem)


def _line(axis, lengths, values, colour, style, label, marker=None) -> None:
    axis.plot(lengths, values.mean(0), style, color=colour, linewidth=1.4, marker=marker, label=label)
    axis.fill_between(lengths, values.min(0), values.max(0), color=colour, alpha=0.18, linewidth=0)
