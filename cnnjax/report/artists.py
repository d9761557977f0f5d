"""What matplotlib drew in one panel, as traces and shapes of plotly.js: numbers, labels, colours, marks."""

import dataclasses
import functools
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from matplotlib.collections import LineCollection, PolyCollection, QuadMesh
from matplotlib.colors import LogNorm, to_rgba
from matplotlib.container import BarContainer, ErrorbarContainer
from matplotlib.contour import ContourSet
from matplotlib.image import AxesImage
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.text import Annotation, Text

from cnnjax.report.marks import PIXELS, Mark, Panel, css, ink, rich_text, rounded, trace

DASHES = {"-": "solid", "--": "dash", ":": "dot", "-.": "dashdot"}
SYMBOLS = {
    **{".": "circle", "o": "circle", "s": "square", "D": "diamond", "p": "pentagon", "h": "hexagon"},
    **{"^": "triangle-up", "v": "triangle-down", "<": "triangle-left", ">": "triangle-right"},
    **{"P": "cross", "X": "x", "*": "star", "x": "x-thin", "+": "cross-thin"},
}


def marks(panel: Panel) -> Iterator[Mark]:
    """Everything in a panel, in the order in which plotly must draw it.

    Raises:
        NotImplementedError: for an artist that has no translation.
    """
    axes, done = panel.axes, set()
    for container in axes.containers:
        if isinstance(container, ErrorbarContainer):
            done |= {container[0], *container[1], *container[2]}
        elif isinstance(container, BarContainer):
            done |= set(container.patches)
    single = (axes.images, axes.collections, axes.patches, axes.lines, axes.artists, axes.tables)
    artists = [artist for each in single for artist in each if artist not in done]
    for artist in (*artists, *axes.containers, *axes.texts):
        yield _mark(artist, panel)


@functools.singledispatch
def _mark(artist: Any, panel: Panel) -> Mark:
    raise NotImplementedError(f"{type(artist).__name__} has no translation for the interactive figure")


@_mark.register
def _line(line: Line2D, panel: Panel) -> Mark:
    if line.get_drawstyle() != "default":
        raise NotImplementedError(f"a line drawn as {line.get_drawstyle()}")
    x, y = (np.asarray(values, float) for values in line.get_data(orig=False))
    colour, dash = line.get_color(), DASHES.get(str(line.get_linestyle()))
    style = {"color": ink(colour), "width": rounded(PIXELS * line.get_linewidth())}
    if line.get_transform().contains_branch_seperately(panel.axes.transData) != (True, True):
        shape = {"type": "line", "line": {**style, "dash": dash}}
        return _shape(panel, line, (x[0], x[-1]), (y[0], y[-1]), shape, colour)
    modes = (["lines"] if dash else []) + ([] if line.get_marker() in ("None", "", None) else ["markers"])
    content: dict[str, Any] = {"x": rounded(x), "y": rounded(y), "mode": "+".join(modes)}
    if dash:
        content["line"] = {**style, "dash": dash}
    if "markers" in modes:
        content["marker"] = _marker(line)
    return trace(panel, "scatter", line, colour, **content)


def _marker(line: Line2D) -> dict[str, Any]:
    symbol, face = SYMBOLS[str(line.get_marker())], to_rgba(line.get_markerfacecolor())
    hollow = face[:3] != to_rgba(line.get_markeredgecolor())[:3] or symbol.endswith("thin")
    size = PIXELS * line.get_markersize() * (0.5 if line.get_marker() == "." else 1)
    edge = ink(line.get_markeredgecolor())
    return {
        "symbol": f"{symbol}-open" if hollow else symbol,
        "size": rounded(size),
        "color": edge,
        "line": {"color": edge, "width": rounded(PIXELS * line.get_markeredgewidth()) if hollow else 0},
    }


def _shape(
    panel: Panel, artist: Any, x: tuple[float, float], y: tuple[float, float], content: Any, colour: Any
) -> Mark:
    """A line or a band across the panel: along one axis its ends are shares of the panel, not data."""
    in_data = artist.get_data_transform() if isinstance(artist, Rectangle) else artist.get_transform()
    x_in_data, y_in_data = in_data.contains_branch_seperately(panel.axes.transData)
    if x_in_data == y_in_data:
        raise NotImplementedError(f"{artist} lies neither in the data nor across the panel")
    mark = trace(panel, content["type"], artist, colour)
    place = {
        "xref": panel.x if x_in_data else f"{panel.x} domain",
        "yref": panel.y if y_in_data else f"{panel.y} domain",
        **dict(zip(("x0", "x1", "y0", "y1"), rounded((*x, *y)), strict=True)),
    }
    opacity = {name: value for name, value in mark.content.items() if name == "opacity"}
    return dataclasses.replace(mark, content={**place, **opacity, **content, "layer": "below"})


@_mark.register
def _span(patch: Rectangle, panel: Panel) -> Mark:
    (x, y), colour = patch.get_xy(), patch.get_facecolor()
    shape = {"type": "rect", "fillcolor": ink(colour, 1), "line": {"width": 0}}
    return _shape(panel, patch, (x, x + patch.get_width()), (y, y + patch.get_height()), shape, colour)


def _joined(parts: Any) -> dict[str, Any]:
    """Points of several lines or areas, with a gap after each."""
    points = [np.vstack([part, [np.nan, np.nan]]) for part in parts if len(part)]
    x, y = np.concatenate(points).T if points else ((), ())
    return {"x": rounded(x), "y": rounded(y), "mode": "lines", "hoverinfo": "skip"}


@_mark.register
def _areas(areas: PolyCollection, panel: Panel) -> Mark:
    colour, outlines = areas.get_facecolor()[0], [path.vertices for path in areas.get_paths()]
    fill = {"fill": "toself", "fillcolor": ink(colour), "line": {"width": 0}}
    mark = trace(panel, "scatter", areas, colour, **_joined(outlines), **fill)
    mark.content.pop("opacity", None)  # the fill has it
    return mark


@_mark.register
def _lines(lines: LineCollection, panel: Panel) -> Mark:
    return _thin_lines(lines, lines.get_segments(), panel)


@_mark.register
def _contours(contours: ContourSet, panel: Panel) -> Mark:
    if contours.filled:
        raise NotImplementedError("filled contours, which hide their numbers: draw the mesh")
    return _thin_lines(contours, [part for level in contours.allsegs for part in level], panel)


def _thin_lines(artist: Any, parts: Any, panel: Panel) -> Mark:
    colour = artist.get_edgecolor()[0]
    line = {"color": ink(colour, 1), "width": rounded(PIXELS * artist.get_linewidth()[0])}
    return trace(panel, "scatter", artist, colour, **_joined(parts), line=line)


@_mark.register
def _errorbars(container: ErrorbarContainer, panel: Panel) -> Mark:
    data, _, bars = container
    mark = _line(data, panel)
    points = np.stack(data.get_data(orig=False), 1).astype(float)
    directions = ["x"] * container.has_xerr + ["y"] * container.has_yerr
    for direction, bar in zip(directions, bars, strict=True):
        along = "xy".index(direction)
        ends = [part[:, along] if len(part) == 2 else np.full(2, np.nan) for part in bar.get_segments()]
        away = np.abs(np.array(ends) - points[:, along, None])
        mark.content[f"error_{direction}"] = {
            "type": "data",
            "symmetric": False,
            "arrayminus": rounded(away[:, 0]),
            "array": rounded(away[:, 1]),
            "color": ink(bar.get_edgecolor()[0], 1),
            "thickness": rounded(PIXELS * bar.get_linewidth()[0]),
            "width": 3,
        }
    label = container.get_label()
    return dataclasses.replace(mark, label="" if not label or str(label).startswith("_") else str(label))


@_mark.register
def _bars(container: BarContainer, panel: Panel) -> Mark:
    low = np.array([bar.get_xy() for bar in container.patches], float)
    size = np.array([(bar.get_width(), bar.get_height()) for bar in container.patches], float)
    along = int(container.orientation == "vertical")  # the axis of the values
    middle, colour = low + size / 2, container.patches[0].get_facecolor()
    names = ("x", "y") if along else ("y", "x")
    bars = {
        names[0]: rounded(middle[:, 1 - along]),
        names[1]: rounded(size[:, along]),
        "base": rounded(low[:, along]),
        "width": rounded(size[:, 1 - along]),
        "orientation": "v" if along else "h",
        "marker": {"color": ink(colour)},
    }
    return trace(panel, "bar", container, colour, **bars)


@_mark.register
def _text(text: Text, panel: Panel) -> Mark:
    if text.get_transform().contains_branch_seperately(panel.axes.transData) != (True, True):
        raise NotImplementedError(f"the text {text.get_text()!r} is not placed by the data")
    return _written(text, *text.get_position(), panel)


@_mark.register
def _annotation(text: Annotation, panel: Panel) -> Mark:
    if text.xycoords != "data" or text.arrow_patch is not None:
        raise NotImplementedError(f"the note {text.get_text()!r} has an arrow or is not placed by the data")
    return _written(text, *text.xy, panel)


def _written(text: Text, x: float, y: float, panel: Panel) -> Mark:
    across = {"left": " right", "right": " left"}.get(text.get_horizontalalignment(), " center")
    up = {"bottom": "top", "top": "bottom"}.get(text.get_verticalalignment(), "middle")
    colour = to_rgba(text.get_color())
    font = {"size": rounded(PIXELS * float(text.get_fontsize()))}
    if any(colour[:3]):  # black is the page's colour of text
        font["color"] = ink(colour)
    place = {"x": rounded([x]), "y": rounded([y]), "textposition": f"{up}{across}", "textfont": font}
    named = {"mode": "text", "text": [rich_text(text.get_text())], "hoverinfo": "skip"}
    return trace(panel, "scatter", text, colour, **place, **named)


@_mark.register
def _image(image: AxesImage, panel: Panel) -> Mark:
    values = np.ma.filled(np.ma.asarray(image.get_array(), float), np.nan)
    rows, columns = values.shape
    left, right, bottom, top = image.get_extent()
    first, last = (bottom, top) if image.origin == "lower" else (top, bottom)
    places = {
        "x": left + (np.arange(columns) + 0.5) * (right - left) / columns,
        "y": first + (np.arange(rows) + 0.5) * (last - first) / rows,
    }
    return _heat_map(image, values, places, panel)


@_mark.register
def _mesh(mesh: QuadMesh, panel: Panel) -> Mark:
    values = np.ma.filled(np.ma.asarray(mesh.get_array(), float), np.nan)
    places = np.asarray(mesh.get_coordinates())
    x, y = places[0, :, 0], places[:, 0, 1]
    if len(x) > values.shape[1]:  # edges of cells, else the points themselves
        x, y = (x[1:] + x[:-1]) / 2, (y[1:] + y[:-1]) / 2
    return _heat_map(mesh, values, {"x": x, "y": y}, panel)


def _heat_map(artist: Any, values: np.ndarray, places: dict[str, Any], panel: Panel) -> Mark:
    """Values [row, column] as colours; on a logarithmic scale plotly has the logarithms."""
    logarithmic = isinstance(artist.norm, LogNorm)
    shown = np.log10(values) if logarithmic else values
    limits = [math.log10(limit) if logarithmic else limit for limit in artist.get_clim()]
    colours = artist.cmap(np.linspace(0, 1, 17))
    content: dict[str, Any] = {
        **{name: rounded(place) for name, place in places.items()},
        "z": rounded(shown),
        **dict(zip(("zmin", "zmax"), rounded(limits), strict=True)),
        "colorscale": [[number / 16, css(colour)] for number, colour in enumerate(colours)],
        "showscale": artist.colorbar is not None,
        "name": "",
    }
    if logarithmic:
        content |= {"customdata": rounded(values), "hovertemplate": "%{x}, %{y}: %{customdata}"}
    if artist.colorbar is not None:
        content["colorbar"] = _colour_bar(artist.colorbar, logarithmic)
    return trace(panel, "heatmap", artist, None, **content)


def _colour_bar(bar: Any, logarithmic: bool) -> dict[str, Any]:
    title = bar.ax.get_ylabel()
    shown: dict[str, Any] = {"title": {"text": rich_text(title), "side": "right"}, "thickness": 12}
    if logarithmic:
        low, high = bar.vmin, bar.vmax
        ticks = [tick for tick in bar.get_ticks() if low <= tick <= high]
        shown |= {"tickvals": rounded(np.log10(ticks)), "ticktext": [f"{tick:g}" for tick in ticks]}
    return shown
