"""Traces and shapes of plotly.js as values: what they have in common, whatever was drawn."""

import dataclasses
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba

PIXELS = 96 / 72
"""A point, as matplotlib measures lines and marks, in the pixels of a page."""
INK = (0.5, 0.5, 0.5)
"""In place of black and dark greys: it can be read on a white page and on a dark one."""


@dataclasses.dataclass(frozen=True)
class Panel:
    """Axes of matplotlib and plotly's names of theirs, such as "x2" and "y2"."""

    axes: Axes
    x: str
    y: str


@dataclasses.dataclass(frozen=True)
class Mark:
    """A trace, or a shape, of plotly.js.

    Attributes:
        content: it, as JSON has it.
        label: in the legend; empty for none.
        colour: red, green and blue, by which what has no label belongs to what has one; None for pictures.
    """

    content: dict[str, Any]
    label: str = ""
    colour: tuple[float, ...] | None = None

    @property
    def is_shape(self) -> bool:
        """Whether it belongs to the layout."""
        return "xref" in self.content


def rounded(values: Any) -> Any:
    """Numbers with six digits, in lists as deep as the array; None where they are not finite."""
    if np.ndim(values):
        return [rounded(value) for value in np.ma.filled(np.ma.asarray(values, float), np.nan)]
    return float(f"{values:.6g}") if np.isfinite(values) else None


def css(colour: Any, alpha: float | None = None) -> str:
    """A colour as a page has it."""
    red, green, blue, own = to_rgba(colour)
    channels = ",".join(f"{round(255 * value)}" for value in (red, green, blue))
    opacity = own if alpha is None else alpha
    return f"rgb({channels})" if opacity == 1 else f"rgba({channels},{opacity:g})"


def ink(colour: Any, alpha: float | None = None) -> str:
    """The colour of a line or a mark: `css`, but `INK` for black."""
    red, green, blue, own = to_rgba(colour)
    dark = red == green == blue < 0.4
    return css((*INK, own) if dark else colour, alpha)


def rich_text(text: str) -> str:
    """Text for a place where plotly reads tags."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace("\n", "<br>")


def trace(panel: Panel, kind: str, artist: Any, colour: Any, **content: Any) -> Mark:
    """A trace of a kind, such as "scatter", with an artist's label and opacity."""
    label = artist.get_label()
    opacity = {} if (alpha := getattr(artist, "get_alpha", lambda: None)()) is None else {"opacity": alpha}
    return Mark(
        {"type": kind, "xaxis": panel.x, "yaxis": panel.y, **opacity, **content},
        "" if not isinstance(label, str) or label.startswith("_") else label,
        None if colour is None else to_rgba(colour)[:3],
    )
