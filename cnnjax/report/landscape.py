"""The loss along lines and planes of weights, eigenvalues of its Hessian, and ways between minima."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cnnjax.report import figure

LEVELS = 24
EIGENVALUES = (-1_000, -100, -10, 0, 10, 100, 1_000, 10_000)


@figure.styled
def planes(surfaces: Mapping[str, np.ndarray], radius: float, stem: Path) -> dict[str, Path]:
    """A panel for each network: contours of the loss [point, point], all with one logarithmic scale.

    Args:
        surfaces: title to the loss on a square from -`radius` to `radius` along both directions.
        radius: in units of the filters' norms.
        stem: the figure's path without an ending.
    """
    axis = {title: np.linspace(-radius, radius, len(loss)) for title, loss in surfaces.items()}
    contours = {title: (axis[title], axis[title], loss) for title, loss in surfaces.items()}
    drawing, axes = _contours(contours)
    for panel in axes[0]:
        panel.plot(0, 0, "o", color="white", markersize=4)
        panel.set_xlabel("first direction")
        panel.set_aspect("equal")
    axes[0][0].set_ylabel("second direction")
    return figure.save(drawing, stem)


@figure.styled
def trajectories(
    nets: Mapping[str, tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]], stem: Path
) -> dict[str, Path]:
    """A panel for each network: the loss in the plane of its trajectory, and the trajectory.

    Args:
        nets: title to coordinates [point] along the first component and the second, loss [point, point], and
            the path [checkpoint, 2].
        stem: the figure's path without an ending.
    """
    drawing, axes = _contours({title: (x, y, loss) for title, (x, y, loss, _) in nets.items()})
    for panel, (*_, path) in zip(axes[0], nets.values(), strict=True):
        panel.plot(*path.T, ".-", color="white", linewidth=1, markersize=4)
        panel.plot(*path[-1], "o", color="white", markersize=5)
        panel.set_xlabel("first component")
    axes[0][0].set_ylabel("second component")
    return figure.save(drawing, stem)


def _contours(panels: Mapping[str, tuple[np.ndarray, np.ndarray, np.ndarray]]) -> tuple[Any, np.ndarray]:
    """Panels with colours and contours of z [x, y], which is positive, on one logarithmic scale, its bar."""
    drawing, axes = figure.panels(1, len(panels), 3.3, 3.2)
    finite = np.concatenate([z[np.isfinite(z)] for *_, z in panels.values()])
    low, high = finite.min(), finite.max() * 1.0001
    levels = np.geomspace(low, high, LEVELS)
    shown: Any = None
    for axis, (title, (x, y, z)) in zip(axes[0], panels.items(), strict=True):
        z = np.clip(np.nan_to_num(z.T, nan=high, posinf=high), low, high)
        shown = axis.pcolormesh(
            x, y, z, norm="log", vmin=low, vmax=high, cmap="viridis", shading="gouraud", rasterized=True
        )
        axis.contour(x, y, z, levels=levels, colors="black", linewidths=0.3, alpha=0.6)
        axis.set_title(title, fontsize=10)
        axis.grid(False)
    place = axes[0][-1].inset_axes((1.06, 0, 0.06, 1))  # beside the last panel, which keeps its size
    bar = drawing.colorbar(shown, cax=place, label="loss (nats)")
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    apart = 1 + len(decades) // 8
    ticks = [10.0**power for power in decades if power % apart == 0]
    if len(decades) < 4:
        ticks = sorted([*ticks, *(3 * tick for tick in ticks)])
    ticks = [tick for tick in ticks if low <= tick <= high]
    if len(ticks) > 1:
        bar.set_ticks(ticks, labels=[f"{tick:g}" for tick in ticks])
        bar.minorticks_off()
    return drawing, axes


@figure.styled
def lines(nets: Mapping[str, np.ndarray], radius: float, stem: Path) -> dict[str, Path]:
    """The loss [seed, point] of each network along a line from -`radius` to `radius`, a panel for each."""
    drawing, axes = figure.panels(1, len(nets), 3.0, 3.2, sharey=True)
    colours = figure.categories(list(nets))
    for axis, (name, losses) in zip(axes[0], nets.items(), strict=True):
        colour = colours[name]
        places = np.linspace(-radius, radius, losses.shape[1])
        for number, loss in enumerate(losses):
            axis.plot(places, loss, color=colour, linewidth=1.4, alpha=1 - 0.25 * (number % 3))
        axis.set_yscale("log")
        axis.set_title(name, fontsize=10)
        axis.set_xlabel("distance")
    _plain_ticks(axes[0][0].yaxis)
    axes[0][0].set_ylabel("loss (nats)")
    return figure.save(drawing, stem, "a line for each seed; distance in units of the filters' norms")


@figure.styled
def spectra(nets: Mapping[str, Sequence[tuple[np.ndarray, np.ndarray]]], stem: Path) -> dict[str, Path]:
    """Eigenvalues as Lanczos sees them, and their weights [step], of each seed; a panel for each network."""
    drawing, axes = figure.panels(1, len(nets), 3.0, 3.2, sharex=True, sharey=True)
    colours = figure.shades(range(max(map(len, nets.values()))))
    everything = np.concatenate([values for seeds in nets.values() for values, _ in seeds])
    low, high = 2 * everything.min(), 2 * everything.max()
    for axis, (name, seeds) in zip(axes[0], nets.items(), strict=True):
        for number, (values, weights) in enumerate(seeds):
            colour = colours[number]
            seen = weights > 1e-9  # below it is rounding
            axis.vlines(values[seen], 1e-9, weights[seen], color=colour, linewidth=0.8, alpha=0.7)
            axis.plot(values[seen], weights[seen], "o", color=colour, markersize=3)
        axis.set_xscale("symlog", linthresh=1.0)
        axis.set_xticks(EIGENVALUES, labels=[f"{value:g}" for value in EIGENVALUES])
        axis.set_xlim(min(low, -1), max(high, 1))
        axis.set_yscale("log")
        axis.set_title(name, fontsize=10)
        axis.set_xlabel("eigenvalue")
        axis.axvline(0, color="black", linewidth=0.6)
    axes[0][0].set_ylabel("weight")
    return figure.save(
        drawing, stem, "a colour for each seed; eigenvalues linear from -1 to 1, else logarithmic"
    )


@figure.styled
def batch_sizes(
    arms: Mapping[str, np.ndarray],
    measures: Mapping[str, Mapping[str, Sequence[float]]],
    radius: float,
    stem: Path,
) -> dict[str, Path]:
    """The loss [seed, point] along a line, by arm, and a panel of dots [seed] for each further measure.

    Args:
        arms: label to losses along a line from -`radius` to `radius`.
        measures: label of the axis to arm to a number for each seed.
        radius: in units of the filters' norms.
        stem: the figure's path without an ending.
    """
    drawing, axes = figure.panels(1, 1 + len(measures), 3.4, 3.4)
    colours = figure.categories(list(arms))
    axis = axes[0][0]
    for arm, losses in arms.items():
        places = np.linspace(-radius, radius, losses.shape[1])
        axis.plot(places, losses.mean(0), color=colours[arm], label=arm)
        axis.fill_between(places, losses.min(0), losses.max(0), color=colours[arm], alpha=0.15, linewidth=0)
    axis.set_yscale("log")
    _plain_ticks(axis.yaxis)
    axis.set_xlabel("distance")
    axis.set_ylabel("loss (nats)")
    for axis, (label, by_arm) in zip(axes[0][1:], measures.items(), strict=True):
        for number, (arm, values) in enumerate(by_arm.items()):
            axis.plot([number] * len(values), values, "o", color=colours[arm], alpha=0.8)
            axis.plot([number - 0.2, number + 0.2], [np.mean(values)] * 2, color=colours[arm], linewidth=2)
        axis.set_xticks([])
        axis.set_xlim(-0.6, len(by_arm) - 0.4)
        axis.set_ylim(bottom=0)
        axis.set_ylabel(label)
    axes[0][-1].legend(
        *axes[0][0].get_legend_handles_labels(),
        frameon=False,
        fontsize=9,
        loc="center left",
        bbox_to_anchor=(1.0, 0.5),
    )
    return figure.save(drawing, stem, "bands and dots: all seeds, with their mean")


@figure.styled
def ways(panels: Mapping[str, Mapping[str, np.ndarray]], t: np.ndarray, stem: Path) -> dict[str, Path]:
    """A panel for each measure: its values [pair, point] along each way between two minima, at places `t`."""
    drawing, axes = figure.panels(1, len(panels), 4.2, 3.4)
    for axis, (label, by_way) in zip(axes[0], panels.items(), strict=True):
        colours = figure.categories(list(by_way))
        for way, values in by_way.items():
            for number, each in enumerate(values):
                axis.plot(t, each, color=colours[way], linewidth=1.4, label=way if number == 0 else None)
        axis.set_ylim(bottom=0)
        axis.set_xlabel("t, from one seed's minimum to another's")
        axis.set_ylabel(label)
    axes[0][0].legend(frameon=False, loc="lower left", bbox_to_anchor=(0, 1), ncols=2)
    return figure.save(drawing, stem)


def _plain_ticks(axis: Any) -> None:
    axis.set_major_formatter("{x:g}")
