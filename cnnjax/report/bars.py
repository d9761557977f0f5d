"""Bars side by side, for what is measured once for each of several contestants."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cnnjax.report.figure import panels, save, styled


@styled
def bars(values: Sequence[tuple[str, str, float]], stem: Path, label: str) -> dict[str, Path]:
    """Draw (group, contestant, value) as bars; the files' paths by their endings."""
    groups = list(dict.fromkeys(group for group, _, _ in values))
    contestants = list(dict.fromkeys(contestant for _, contestant, _ in values))
    figure, axes = panels(1, 1, width=2 + 1.6 * len(groups), height=3.8)
    axis, width = axes[0][0], 0.8 / len(contestants)
    for index, contestant in enumerate(contestants):
        heights = [
            next((value for g, c, value in values if (g, c) == (group, contestant)), np.nan)
            for group in groups
        ]
        places = np.arange(len(groups)) + (index - (len(contestants) - 1) / 2) * width
        drawn = axis.bar(places, heights, 0.92 * width, label=contestant)
        axis.bar_label(drawn, fmt="%.3g", fontsize=8)
    axis.set_xticks(range(len(groups)), groups)
    axis.set_ylabel(label)
    axis.legend(frameon=False)
    return save(figure, stem)
