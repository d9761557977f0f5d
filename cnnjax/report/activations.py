"""Nets that differ in their activation: training error, and gradients in deep stacks."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from cnnjax.report import figure


@figure.styled
def training_errors(
    panels: Mapping[str, Mapping[str, Sequence[np.ndarray]]], threshold: float, window: int, stem: Path
) -> dict[str, Path]:
    """A panel for each title: training error against step, a curve for each activation.

    Args:
        panels: title to activation to the errors [step] of each seed.
        threshold: an error to mark.
        window: steps over which errors are averaged.
        stem: the figure's path without an ending.
    """
    drawing, axes = figure.panels(1, len(panels), 4.2, 3.8, sharex=True, sharey=True)
    for axis, (title, curves) in zip(axes[0], panels.items(), strict=True):
        colours = figure.categories(list(curves))
        for name, seeds in curves.items():
            length = min(map(len, seeds))
            size = min(window, length)
            if not length:
                continue
            average = np.full(size, 1 / size)
            errors = 100 * np.stack([np.convolve(seed[:length], average, "valid") for seed in seeds])
            steps, colour = np.arange(size, length + 1), colours[name]
            axis.plot(steps, errors.mean(0), color=colour, linewidth=1.6, label=name)
            axis.fill_between(steps, errors.min(0), errors.max(0), color=colour, alpha=0.15, linewidth=0)
        axis.axhline(100 * threshold, color="black", linewidth=1, linestyle=":")
        axis.set_title(title, fontsize=11)
        axis.set_xlabel("step")
        axis.set_xlim(left=0)
        axis.set_ylim(0, 100)
    axes[0][0].set_ylabel("training error (%)")
    _legend(axes)
    return figure.save(drawing, stem)


@figure.styled
def gradients_in_stacks(
    panels: Mapping[str, Mapping[str, tuple[np.ndarray, np.ndarray]]], stem: Path
) -> dict[str, Path]:
    """A panel for each title: norm of the gradient against layer, a curve for each activation.

    Args:
        panels: title to activation to norms [seed, layer] and theory [layer].
        stem: the figure's path without an ending.
    """
    drawing, axes = figure.panels(1, len(panels), 4.2, 3.8)
    for axis, (title, curves) in zip(axes[0], panels.items(), strict=True):
        colours = figure.categories(list(curves))
        for name, (norms, theory) in curves.items():
            layers, colour = np.arange(1, norms.shape[1] + 1), colours[name]
            axis.plot(layers, np.exp(np.log(norms).mean(0)), color=colour, linewidth=1.6, label=name)
            axis.fill_between(layers, norms.min(0), norms.max(0), color=colour, alpha=0.15, linewidth=0)
            axis.plot(layers, theory, "--", color=colour, linewidth=1)
        axis.set_yscale("log")
        axis.set_title(title, fontsize=11)
        axis.set_xlabel("layer, from input to output")
        axis.xaxis.get_major_locator().set_params(integer=True)
    axes[0][0].set_ylabel("gradient by output, relative to last")
    _legend(axes)
    return figure.save(drawing, stem)


def _legend(axes: np.ndarray) -> None:
    axes[0][-1].legend(frameon=False, fontsize=9, loc="center left", bbox_to_anchor=(1.0, 0.5))
