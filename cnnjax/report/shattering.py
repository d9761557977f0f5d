"""The figures of shattered gradients: Balduzzi et al. 2017, figures 1 and 2, and theory against depth."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from cnnjax.report import figure


@figure.styled
def signals(series: Mapping[str, np.ndarray], stem: Path) -> dict[str, Path]:
    """Figure 1: gradients over the grid above, their covariance matrices below.

    Args:
        series: title to gradients [net, point]. The first net is drawn; the matrix is the mean over nets,
            each scaled to mean square 1.
        stem: the figure's path without an ending.
    """
    drawing, axes = figure.panels(2, len(series), 2.6, 2.4)
    for column, (title, gradients) in enumerate(series.items()):
        scaled = gradients / np.sqrt(np.mean(gradients**2, 1, keepdims=True))
        top, bottom = axes[:, column]
        top.plot(np.linspace(-2, 2, scaled.shape[1]), scaled[0], linewidth=0.8, color=figure.COLOURS[0])
        top.set_title(title.replace(", ", "\n", 1), fontsize=10)
        top.set_yticks([])
        bottom.imshow(scaled.T @ scaled / len(scaled), cmap="gray", vmin=-1, vmax=1, extent=(-2, 2, 2, -2))
        bottom.grid(False)
        bottom.set_yticks([])
    axes[0][0].set_ylabel("gradient (scaled)")
    axes[1][0].set_ylabel("covariance")
    return figure.save(drawing, stem)


@figure.styled
def autocorrelations(families: Mapping[str, Mapping[str, np.ndarray]], stem: Path) -> dict[str, Path]:
    """Figure 2: a panel per family, a curve [net, lag] per depth: mean and band of two standard errors."""
    columns = -(-len(families) // 2)
    drawing, axes = figure.panels(2, columns, 3.6, 3.0, sharex=True, sharey=True)
    for axis, (title, curves) in zip(axes.flat, families.items(), strict=False):
        colours = figure.depth_colours(range(len(curves)))
        for index, (label, values) in enumerate(curves.items()):
            _band(axis, np.arange(values.shape[1]), values, colours[index], label)
        axis.axhline(0, color="black", linewidth=0.6)
        axis.set_title(title, fontsize=10)
        axis.legend(frameon=False, fontsize=8, loc="upper center", ncols=3, columnspacing=1)
        axis.set_xlabel("lag")
        axis.tick_params(labelbottom=True)
    axes[0][0].set_ylim(top=1.4)  # the curves begin at 1: above them is room for the legend
    for axis in axes.flat[len(families) :]:
        axis.axis("off")
    for axis in axes[:, 0]:
        axis.set_ylabel("autocorrelation")
    return figure.save(drawing, stem)


@figure.styled
def against_depth(
    families: Mapping[str, tuple[np.ndarray, Mapping[str, np.ndarray], Mapping[str, np.ndarray]]], stem: Path
) -> dict[str, Path]:
    """Correlation above and variance below, against depth, with theory over the measurement.

    Args:
        families: title to (depths, correlations, variances); those are name to values, [net, depth] for
            "measured" and [depth] for a theory.
        stem: the figure's path without an ending.
    """
    styles = {"paper": "--", "corrected": "-", "plug_in": ":"}
    drawing, axes = figure.panels(2, len(families), 2.9, 2.7, sharex=True)
    for column, (title, (depths, *quantities)) in enumerate(families.items()):
        for axis, curves in zip(axes[:, column], quantities, strict=True):
            for name, values in curves.items():
                if name == "measured":
                    axis.errorbar(
                        depths, values.mean(0), 2 * _error(values), fmt="o", markersize=4, label=name
                    )
                else:
                    label = name.replace("_", "-")
                    axis.plot(depths, values, styles[name], color="black", linewidth=1, label=label)
            axis.set_xscale("log")
            axis.set_xticks(depths, [str(depth) for depth in depths])
            axis.minorticks_off()
        axes[0][column].set_yscale("log")
        axes[0][column].set_ylim(1e-3, 1.3)
        if max(map(np.max, quantities[1].values())) > 10:  # a logarithmic axis has its labels a decade apart
            axes[1][column].set_yscale("log")
            axes[1][column].set_ylim(bottom=0.7)
            axes[1][column].yaxis.set_minor_formatter("")
        axes[0][column].set_title(title, fontsize=10)
        axes[1][column].set_xlabel("layers to the output")
    axes[0][0].set_ylabel("correlation")
    axes[1][0].set_ylabel("variance")
    axes[0][0].legend(frameon=False, fontsize=8)
    return figure.save(drawing, stem)


@figure.styled
def correlations(families: Mapping[str, Mapping[str, np.ndarray]], stem: Path) -> dict[str, Path]:
    """Figure 7, a and b: a column per family, a matrix [sample, sample] per depth; black is -1, white 1."""
    rows = max(len(matrices) for matrices in families.values())
    drawing, axes = figure.panels(rows, len(families), 2.8, 2.7)
    for column, (title, matrices) in zip(axes.T, families.items(), strict=True):
        for axis, (name, matrix) in zip(column, matrices.items(), strict=True):
            axis.imshow(matrix, cmap="gray", vmin=-1, vmax=1, interpolation="none")
            axis.grid(False)
            axis.set_xticks([])
            axis.set_yticks([])
            axis.set_xlabel(name)
        column[0].set_title(title, fontsize=10)
    return figure.save(drawing, stem)


@figure.styled
def sample_measures(
    depths: np.ndarray, families: Mapping[str, Mapping[str, np.ndarray]], stem: Path
) -> dict[str, Path]:
    """Figure 7, c and d: measures [net, depth] of samples' gradients, a panel each, a curve per family.

    `mean_cosine`, `normalised_rank` (solid) with `effective_rank` (dashed), and `alignment`.
    """
    drawing, axes = figure.panels(1, 3, 3.6, 3.2)
    panels = {"mean_cosine": 0, "normalised_rank": 1, "effective_rank": 1, "alignment": 2}
    for index, (title, measures) in enumerate(families.items()):
        for name, panel in panels.items():
            values, raw = measures[name], name == "effective_rank"
            axes[0][panel].errorbar(
                depths,
                values.mean(0),
                2 * _error(values),
                fmt="--" if raw else "o-",
                markersize=4,
                linewidth=1.2,
                alpha=0.5 if raw else 1,
                color=f"C{index}",
                label=None if raw else title,
            )
    labels = ("mean cosine", "relative rank (dashed: raw)", "B |mean g|² / mean |g|²")
    for axis, label, white in zip(axes[0], labels, (0, 1, 1), strict=True):
        axis.axhline(white, color="black", linewidth=0.8, linestyle=":")
        axis.set_xscale("log")
        axis.set_xticks(depths, [str(depth) for depth in depths], minor=False)
        axis.minorticks_off()
        axis.set_xlabel("convolutions")
        axis.set_ylabel(label)
    axes[0][2].set_yscale("log")
    axes[0][0].set_ylim(top=1.35 * axes[0][0].get_ylim()[1])  # room for the legend
    axes[0][0].legend(frameon=False, fontsize=8, loc="upper right")
    return figure.save(drawing, stem)


def _band(axis, x: np.ndarray, values: np.ndarray, colour, label: str) -> None:
    mean, error = values.mean(0), 2 * _error(values)
    axis.plot(x, mean, color=colour, label=label, linewidth=1.6)
    axis.fill_between(x, mean - error, mean + error, color=colour, alpha=0.18, linewidth=0)


def _error(values: np.ndarray) -> np.ndarray:
    """Standard error of the mean over the first axis; 0 for a single net."""
    return values.std(0, ddof=1) / np.sqrt(len(values)) if len(values) > 1 else np.zeros(values.shape[1])
