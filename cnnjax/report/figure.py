"""What all figures share: the style, and the files of each."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import matplotlib
import numpy as np
from matplotlib import rcsetup
from matplotlib.figure import Figure  # without pyplot, which would choose a backend for the whole program

from cnnjax.files import replacing
from cnnjax.report.interactive import interactive

T = TypeVar("T")

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#444444")
"""Okabe and Ito's, which the colour-blind can tell apart, without their yellow: white paper hides it."""

styled = matplotlib.rc_context(
    {
        "svg.hashsalt": "cnnjax",
        "svg.fonttype": "path",
        "pdf.fonttype": 42,  # text stays text
        "font.size": 11,
        "axes.prop_cycle": rcsetup.cycler(color=COLOURS),
    }
)
"""Decorates a function that draws: it has our style, and what else is drawn keeps its own."""


def panels(
    rows: int, columns: int, width: float = 4.0, height: float = 3.4, **options: Any
) -> tuple[Any, np.ndarray]:
    """A figure and its axes [row, column], each panel `width` by `height` inches."""
    figure = Figure(figsize=(width * columns, height * rows))
    axes = figure.subplots(rows, columns, squeeze=False, **options)
    for axis in axes.flat:
        axis.grid(alpha=0.25, linewidth=0.6)
        axis.spines[["top", "right"]].set_visible(False)
    return figure, axes


def depth_colours(depths: Sequence[int]) -> dict[int, Any]:
    """A colour for each depth, light to dark."""
    return shades(sorted(depths))


def categories(names: Sequence[T]) -> dict[T, Any]:
    """A colour for each: one of `COLOURS`, or from light to dark where those are not enough."""
    if len(names) > len(COLOURS):
        return shades(names)
    return dict(zip(names, COLOURS, strict=False))


def shades(names: Sequence[T]) -> dict[T, Any]:
    """A colour for each, light to dark in their order; none so dark that a dark page hides it."""
    scale = matplotlib.colormaps["viridis"](np.linspace(0.85, 0.2, len(names)))
    return dict(zip(names, scale, strict=True))


def save(figure: Any, stem: Path, title: str = "") -> dict[str, Path]:
    """Write the figure as `stem`.png, .svg, .pdf, and as .json for plotly.js; returns the paths by ending."""
    if title:
        figure.suptitle(title, fontsize=11)
    figure.tight_layout()
    paths = {kind: stem.with_suffix(f".{kind}") for kind in ("png", "svg", "pdf", "json")}
    undated = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}
    for kind in ("png", "svg", "pdf"):
        with replacing(paths[kind], "wb") as file:
            figure.savefig(file, format=kind, dpi=110, metadata=undated.get(kind))
    with replacing(paths["json"]) as file:
        json.dump(interactive(figure), file, allow_nan=False, separators=(",", ":"))
    return paths
