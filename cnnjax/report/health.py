"""A diagnosis as a figure: statistics over depth."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from cnnjax.report import figure

PANELS = {
    "rms": ("forward: rms of the output", True),
    "gradient": ("backward: rms of the gradient by the output", True),
    "weight_gradient": ("|gradient| / |weight|", True),
    "update": ("|first update| / |weight|", True),
    "cosine": ("cosine of two inputs", False),
    "flat": ("share where the activation is flat", False),
    "shattering": ("cosine of two samples' gradients", False),
}
"""Title, and whether the axis is logarithmic."""


@figure.styled
def over_depth(
    statistics: Mapping[str, np.ndarray],
    losses: np.ndarray,
    chance: float,
    skips: np.ndarray,
    title: str,
    path: Path,
) -> dict[str, Path]:
    """A panel [layer] for each statistic, and the losses [step] of the trial.

    Args:
        statistics: arrays by the names of `PANELS`.
        losses: of the one batch, before each step and after the last.
        chance: the loss of guessing.
        skips: [block]; drawn in place of the cosine of gradients if there are blocks.
        title: of the figure.
        path: of the PNG; the SVG lies beside it.
    """
    drawing, axes = figure.panels(2, 4, 3.6, 2.8)
    for axis, (name, (label, logarithmic)) in zip(axes.flat, PANELS.items(), strict=False):
        values = np.asarray(statistics[name], float)
        if name == "shattering" and len(skips):
            label, values, logarithmic = "first gradient without a block's backward pass", skips, True
        axis.plot(np.arange(1, len(values) + 1), values, "o-", markersize=2.5, linewidth=1)
        if logarithmic and np.any(values > 0):
            axis.set_yscale("log")
        axis.set_title(label, fontsize=9)
        axis.set_xlabel("block" if values is skips else "layer")
    last = axes.flat[-1]
    last.plot(losses, linewidth=1.2)
    last.axhline(chance, color="black", linewidth=0.6, linestyle="--")
    last.set_title("loss of this one batch (dashed: chance)", fontsize=9)
    last.set_xlabel("step")
    if len(title) > 110:
        title = f"{title[:107]}..."
    return figure.save(drawing, path.with_suffix(""), title)
