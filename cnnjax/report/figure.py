"""What all figures share: the style, and a PNG and an SVG of each."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import matplotlib
import numpy as np
from matplotlib.figure import Figure  # without pyplot, which would choose a backend for the whole program

from cnnjax.files import replacing

T = TypeVar("T")
styled = matplotlib.rc_context({"svg.hashsalt": "cnnjax", "svg.fonttype": "path", "font.size": 11})
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


def shades(names: Sequence[T]) -> dict[T, Any]:
    """A colour for each, light to dark in their order."""
    scale = matplotlib.colormaps["viridis"](np.linspace(0.85, 0.1, len(names)))
    return dict(zip(names, scale, strict=True))


def save(figure: Any, stem: Path, title: str = "") -> dict[str, Path]:
    """Write the figure as `stem`.png and `stem`.svg; returns their paths, by "png" and "svg"."""
    if title:
        figure.suptitle(title, fontsize=11)
    figure.tight_layout()
    paths = {kind: stem.with_suffix(f".{kind}") for kind in ("png", "svg")}
    for kind, path in paths.items():
        with replacing(path, "wb") as file:
            figure.savefig(file, format=kind, dpi=110, metadata={"Date": None} if kind == "svg" else None)
    return paths
