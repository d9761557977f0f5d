"""Errors of averaged networks against the number of members, and against the share of them that is left."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cnnjax.report import figure

Points = Mapping[float, Sequence[float]]
"""Errors by what they are drawn against."""
STYLES: Mapping[str, Mapping[str, Any]] = {
    "seeds": {"linestyle": "-", "marker": "o"},
    "checkpoints": {"linestyle": "--", "marker": "s", "markerfacecolor": "white"},
    "paths": {"linestyle": ":", "marker": "^", "markerfacecolor": "white"},
}


@figure.styled
def errors_of_ensembles(
    members: Mapping[str, Mapping[str, Points]], shares: Mapping[str, Mapping[str, Points]], stem: Path
) -> dict[str, Path]:
    """Two panels: error against the number of members, and against the share that is left.

    Args:
        members: network to kind, a key of `STYLES`, to errors by number of members.
        shares: network to kind to errors by the share of members or paths.
        stem: the figure's path without an ending.
    """
    drawing, axes = figure.panels(1, 2, 5.2, 4.0)
    for axis, nets in zip(axes[0], (members, shares), strict=True):
        colours = figure.categories(list(nets))
        for name, kinds in nets.items():
            for kind, points in kinds.items():
                _draw(axis, points, {"color": colours[name], **STYLES[kind]}, f"{name}, {kind}")
        axis.legend(frameon=False, fontsize=9, loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2)
    axes[0][0].set_ylabel("test error (%)")
    axes[0][0].set_xlabel("members")
    axes[0][0].xaxis.get_major_locator().set_params(integer=True)
    axes[0][1].set_xscale("log", base=2)
    axes[0][1].xaxis.set_major_formatter(lambda share, _: f"1/{1 / share:g}" if share < 1 else "all")
    axes[0][1].invert_xaxis()
    axes[0][1].set_xlabel("share of members or paths that is left")
    return figure.save(drawing, stem)


def _draw(axis, points: Points, style: Mapping[str, Any], label: str) -> None:
    places = sorted(points)
    mean, std = (np.array([100 * kind(points[place]) for place in places]) for kind in (np.mean, np.std))
    axis.plot(places, mean, **style, markersize=5, linewidth=1.5, label=label)
    axis.fill_between(places, mean - std, mean + std, color=style["color"], alpha=0.12, linewidth=0)
