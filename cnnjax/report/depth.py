"""Statistics of layers against depth, at initialisation and along training."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from cnnjax.report import figure


@figure.styled
def against_depth(
    families: Mapping[str, Mapping[str, np.ndarray]],
    theory: Mapping[str, tuple[str, np.ndarray]],
    stem: Path,
    label: str,
) -> dict[str, Path]:
    """A panel per family, a curve [seed, layer] per net, first layer left; bands from lowest to highest.

    Args:
        families: title to net to values.
        theory: title to a label and values [layer] to draw over the deepest net's.
        stem: the figure's path without an ending.
        label: of the vertical axis, which is logarithmic.
    """
    rows = -(-len(families) // 4)
    drawing, axes = figure.panels(rows, -(-len(families) // rows), 3.4, 2.9)
    for axis, (title, nets) in zip(axes.flat, families.items(), strict=False):
        colours = figure.depth_colours(range(len(nets)))
        for index, (name, values) in enumerate(nets.items()):
            layers = np.arange(1, values.shape[1] + 1)
            values = np.where(values > 0, values, np.nan)  # an underflow has no place on the axis
            axis.plot(layers, np.exp(np.log(values).mean(0)), color=colours[index], label=name)
            axis.fill_between(
                layers, values.min(0), values.max(0), color=colours[index], alpha=0.2, linewidth=0
            )
        if title in theory:
            name, values = theory[title]
            axis.plot(np.arange(1, len(values) + 1), values, "--", color="black", linewidth=1, label=name)
        axis.set_yscale("log")
        low, high = axis.dataLim.intervaly
        axis.margins(y=min(0.3, 2 / np.log10(high / low)))  # room for the legend, but not many decades
        axis.set_title(title, fontsize=10)
        axis.legend(frameon=False, fontsize=8, loc="best")
        axis.set_xlabel("layer")
    for axis in axes.flat[len(families) :]:
        axis.axis("off")
    for axis in axes[:, 0]:
        axis.set_ylabel(label)
    return figure.save(drawing, stem)


@figure.styled
def microscope(nets: Mapping[str, Mapping[int, np.ndarray]], stem: Path, label: str) -> dict[str, Path]:
    """A panel per net, a curve [layer] per step from light to dark, on a logarithmic axis."""
    drawing, axes = figure.panels(1, len(nets), 4.2, 3.4, sharey=True)
    for axis, (title, curves) in zip(axes[0], nets.items(), strict=True):
        colours = figure.depth_colours(range(len(curves)))
        for index, (step, values) in enumerate(sorted(curves.items())):
            axis.plot(np.arange(1, len(values) + 1), values, color=colours[index], label=f"step {step}")
        axis.set_yscale("log")
        axis.set_title(title, fontsize=10)
        axis.set_xlabel("layer")
    axes[0][0].set_ylabel(label)
    axes[0][-1].legend(frameon=False, fontsize=8)
    return figure.save(drawing, stem)


@figure.styled
def responses(nets: Mapping[str, np.ndarray], stem: Path) -> dict[str, Path]:
    """Standard deviations [layer] of responses, a curve per net: in the order of the layers, and sorted."""
    drawing, axes = figure.panels(1, 2, 4.2, 3.4, sharey=True)
    for name, values in nets.items():
        layers = np.arange(1, len(values) + 1)
        axes[0][0].plot(layers, values, linewidth=1.2, label=name)
        axes[0][1].plot(layers, np.sort(values)[::-1], linewidth=1.2, label=name)
    for axis, order in zip(axes[0], ("layer", "layer, sorted by magnitude"), strict=True):
        axis.set_xlabel(order)
        axis.set_yscale("log")
    axes[0][0].set_ylabel("response std")
    axes[0][1].legend(frameon=False, fontsize=8)
    return figure.save(drawing, stem)


@figure.styled
def against_step(
    nets: Mapping[str, Mapping[int, Sequence[float]]], stem: Path, label: str
) -> dict[str, Path]:
    """A curve per net over the measured steps, geometric mean over seeds; bands from lowest to highest."""
    drawing, ((axis,),) = figure.panels(1, 1, 6.4, 3.4)
    steps: list[int] = sorted({step for values in nets.values() for step in values})
    for name, by_step in nets.items():
        places, values = [steps.index(step) for step in by_step], np.array(list(by_step.values()))
        (line,) = axis.plot(places, np.exp(np.log(values).mean(1)), "o-", markersize=3, label=name)
        axis.fill_between(
            places, values.min(1), values.max(1), color=line.get_color(), alpha=0.2, linewidth=0
        )
    axis.axhline(1, color="black", linewidth=0.6)
    axis.set_xticks(range(len(steps)), [str(step) for step in steps])
    axis.set_yscale("log")
    axis.set_xlabel("step")
    axis.set_ylabel(label)
    axis.legend(frameon=False, fontsize=8)
    return figure.save(drawing, stem)


@figure.styled
def heat_map(nets: Mapping[str, Mapping[int, np.ndarray]], stem: Path, label: str) -> dict[str, Path]:
    """A panel per net: layers upwards, measured steps to the right; colour is the logarithm of the value."""
    drawing, axes = figure.panels(1, len(nets), 4.2, 3.4)
    logs = {title: np.log10([curves[step] for step in sorted(curves)]).T for title, curves in nets.items()}
    low, high = min(map(np.min, logs.values())), max(map(np.max, logs.values()))
    for axis, (title, values) in zip(axes[0], logs.items(), strict=True):
        steps = sorted(nets[title])
        extent = (-0.5, len(steps) - 0.5, 0.5, len(values) + 0.5)
        image = axis.imshow(
            values, aspect="auto", origin="lower", extent=extent, vmin=low, vmax=high, cmap="magma"
        )
        axis.set_xticks(range(len(steps)), [str(step) for step in steps])
        axis.grid(False)
        axis.set_title(title, fontsize=10)
        axis.set_xlabel("step")
        drawing.colorbar(image, ax=axis, label=f"log10 {label}")
    axes[0][0].set_ylabel("layer")
    return figure.save(drawing, stem)
