"""A figure of matplotlib as one of plotly.js, with hover, zoom, and families that can be switched off."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.category import StrCategoryLocator
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter

from cnnjax.report.artists import marks
from cnnjax.report.marks import Mark, Panel, rich_text, rounded


def interactive(figure: Figure) -> dict[str, Any]:
    """Translate a figure to `{"data": [...], "layout": {...}}`, the arguments of `Plotly.newPlot`.

    It is read, not drawn again: whatever a report draws comes out with the same numbers, to six digits.
    Traces of one label are a group over all panels, and so is what has no label but the colour of one, so a
    click in the legend switches a family off everywhere. Colours of text, axes and background are left to
    the page. Plotly has no symlog scale: such an axis is linear, and its title says so. `layout.meta.panels`
    names each panel's axes and title, for a page that puts the panels below each other.

    Raises:
        NotImplementedError: for an artist that has no translation.
    """
    shown = [axes for axes in figure.axes if axes.axison]
    bars = {id(each.colorbar.ax) for axes in shown for each in _coloured(axes) if each.colorbar is not None}
    shown = [axes for axes in shown if id(axes) not in bars]
    panels = [
        Panel(axes, f"x{number or ''}", f"y{number or ''}")
        for axes, number in zip(shown, [0, *range(2, len(shown) + 1)], strict=True)
    ]
    boxes = np.array([axes.get_position(original=True).get_points() for axes in shown])
    low, high = boxes.min((0, 1)), boxes.max((0, 1))
    boxes = (boxes - low) / (high - low)  # plotly itself finds room around the panels
    layout: dict[str, Any] = {"hovermode": "closest", "annotations": [], "shapes": []}
    layout |= {"height": round(96 * figure.get_figheight()), "barmode": "overlay"}
    found = [list(marks(panel)) for panel in panels]
    _group(found)
    data = []
    for panel, box, drawn in zip(panels, boxes, found, strict=True):
        layout[panel.x.replace("x", "xaxis")] = _axis(panel, panels, 0, box)
        layout[panel.y.replace("y", "yaxis")] = _axis(panel, panels, 1, box)
        layout["annotations"] += _title(panel)
        layout["shapes"] += [mark.content for mark in drawn if mark.is_shape]
        data += [mark.content for mark in drawn if not mark.is_shape]
        for trace in data:
            if "colorbar" in trace and trace["xaxis"] == panel.x:
                (_, bottom), (right, top) = box
                place = {"x": right + 0.01, "y": (bottom + top) / 2, "len": top - bottom}
                trace["colorbar"] |= {name: rounded(value) for name, value in place.items()}
    if figure.get_suptitle():
        layout["title"] = {"text": rich_text(figure.get_suptitle())}
    layout["meta"] = {
        "panels": [{"xaxis": panel.x, "yaxis": panel.y, "title": _name(panel.axes)} for panel in panels]
    }
    return {"data": data, "layout": layout}


def _coloured(axes: Axes) -> Iterable[Any]:
    return (each for each in (*axes.images, *axes.collections) if hasattr(each, "colorbar"))


def _group(found: Sequence[Sequence[Mark]]) -> None:
    """Give each mark its family: its label, else the only label of its colour, in its panel or in all."""
    everywhere: dict[Any, set[str]] = defaultdict(set)
    for mark in (mark for panel in found for mark in panel if mark.label):
        everywhere[mark.colour].add(mark.label)
    seen = set()
    for panel in found:
        here: dict[Any, set[str]] = defaultdict(set)
        for mark in panel:
            if mark.label:
                here[mark.colour].add(mark.label)
        for mark in panel:
            labels = {mark.label} if mark.label else here[mark.colour] or everywhere[mark.colour]
            mark.content["showlegend"] = bool(mark.label) and mark.label not in seen
            seen.add(mark.label)
            if len(labels) == 1 and mark.colour is not None:
                mark.content["legendgroup"] = mark.content["name"] = rich_text(*labels)


def _axis(panel: Panel, panels: Sequence[Panel], number: int, box: np.ndarray) -> dict[str, Any]:
    """A horizontal axis (0) or a vertical one (1), in its share of the figure, `box` [corner, axis]."""
    axes = panel.axes
    axis = (axes.xaxis, axes.yaxis)[number]
    scale = (axes.get_xscale, axes.get_yscale)[number]()
    limits = np.array((axes.get_xlim, axes.get_ylim)[number]())
    if scale not in ("linear", "log", "symlog"):
        raise NotImplementedError(f"a {scale} axis")
    title = axis.get_label_text() + (" (linear here)" if scale == "symlog" else "")
    ticks = axis.get_tick_params()
    made: dict[str, Any] = {
        "domain": rounded(box[:, number]),
        "anchor": (panel.y, panel.x)[number],
        "type": "log" if scale == "log" else "linear",
        "range": rounded(np.log10(limits) if scale == "log" else limits),
        "title": {"text": rich_text(title), "standoff": 4},
        "showgrid": bool(ticks["gridOn"]),
        "showticklabels": bool(ticks[("labelbottom", "labelleft")[number]]),
        "zeroline": False,
        "automargin": True,
    }
    together = (axes.get_shared_x_axes, axes.get_shared_y_axes)[number]()
    first = next(each for each in panels if each is panel or together.joined(each.axes, axes))
    if first is not panel:
        made["matches"] = (first.x, first.y)[number]
    if number and axes.get_aspect() == 1:
        made |= {"scaleanchor": panel.x, "constrain": "domain"}
    elif axes.get_aspect() == 1:
        made["constrain"] = "domain"
    return {**made, **_ticks(axis, limits)}


def _ticks(axis: Any, limits: np.ndarray) -> dict[str, Any]:
    """Places and names of ticks that are not just numbers that plotly would choose too."""
    locator, formatter = axis.get_major_locator(), axis.get_major_formatter()
    named = isinstance(formatter, FuncFormatter) and not isinstance(formatter, NullFormatter)
    if not named and not isinstance(locator, (FixedLocator, StrCategoryLocator)):
        return {}
    places = axis.get_majorticklocs()
    texts = formatter.format_ticks(places)
    inside = [
        (place, text)
        for place, text in zip(places, texts, strict=True)
        if min(limits) <= place <= max(limits)
    ]
    return {
        "tickvals": rounded([place for place, _ in inside]),
        "ticktext": [f"{place:g}" if "$" in text else rich_text(text) for place, text in inside],
    }


def _name(axes: Axes) -> str:
    return rich_text(axes.get_title() or axes.get_title(loc="left"))


def _title(panel: Panel) -> list[dict[str, Any]]:
    place = {"xref": f"{panel.x} domain", "yref": f"{panel.y} domain", "x": 0.5, "y": 1}
    look = {"yanchor": "bottom", "showarrow": False, "text": _name(panel.axes)}
    return [{**place, **look}] if look["text"] else []
