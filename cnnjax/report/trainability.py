"""The trainability study as a figure."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from cnnjax.report import figure


@figure.styled
def verdicts(
    families: Mapping[str, Sequence[tuple[float, float]]],
    bounds: tuple[float, float],
    half: float,
    stem: Path,
) -> dict[str, Path]:
    """A point for each network: probability to train against the training loss, in nats; a mark a family.

    Args:
        families: pairs of probability and loss by family.
        bounds: of the verdict.
        half: half of chance's loss.
        stem: the figure's path without an ending.
    """
    drawing, ((axis,),) = figure.panels(1, 1, 7.6, 4.6)
    marks = "osD^v<>Pp*Xh"
    colours = figure.shades(list(families))
    for mark, (name, points) in zip(marks, families.items(), strict=False):
        axis.plot(
            *np.array(points).T, mark, markersize=5, alpha=0.75, color=colours[name], label=name, linestyle=""
        )
    for bound in bounds:
        axis.axvline(bound, color="black", linewidth=0.7, linestyle="--")
    axis.axhline(half, color="black", linewidth=0.7, linestyle="--")
    axis.set_xlabel("probability to train, by a model fitted to the other families")
    axis.set_ylabel("training loss after the last steps (5: 5 or more)")
    axis.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure.save(drawing, stem)
