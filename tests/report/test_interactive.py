import importlib
import itertools
import json
import pkgutil

import numpy as np
import pytest
from matplotlib.figure import Figure

from cnnjax import report
from cnnjax.report import bars, scaling
from cnnjax.report import figure as shared
from cnnjax.report.figure import panels, save
from cnnjax.report.interactive import interactive
from tests.report.figures import FIGURES


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """Every figure by the function that draws it, before it is written."""
    folder, found = tmp_path_factory.mktemp("figures"), {}

    def keep(figure, stem, title=""):
        if title:
            figure.suptitle(title)
        found[current] = figure
        return {"png": stem.with_suffix(".png")}

    with pytest.MonkeyPatch.context() as patch:
        for module in (shared, bars, scaling):
            patch.setattr(module, "save", keep)
        for current, draw in FIGURES.items():  # noqa: B007
            draw(folder / "figure")
    return found


def six_digits(values):
    return sorted({float(f"{value:.6g}") for value in np.ravel(values) if np.isfinite(value)})


def numbers(figure, name):
    """All that matplotlib has drawn along an axis, "x" or "y", but not what is drawn across a panel."""
    column = "xy".index(name)
    for axes in (axes for axes in figure.axes if axes.axison and axes.get_label() != "<colorbar>"):
        for line in axes.lines:
            if line.get_transform().contains_branch_seperately(axes.transData)[column]:
                yield np.asarray(line.get_xydata(), float)[:, column]
        for image in axes.images:
            yield image.get_array() if column else []
        for collection in axes.collections:
            for path in collection.get_paths():
                yield path.vertices[:, column]
        for text in axes.texts:
            yield [getattr(text, "xy", text.get_position())[column]]


@pytest.mark.parametrize(
    "function", FIGURES, ids=lambda function: f"{function.__module__}.{function.__name__}"
)
def test_a_figure_has_the_numbers_that_are_drawn(drawn, function):
    figure = drawn[function]
    translated = json.loads(json.dumps(interactive(figure), allow_nan=False))
    data, layout = translated["data"], translated["layout"]
    known = {"x": set(), "y": set()}
    for trace in data:
        for name, values in known.items():
            values |= {value for value in trace[name] if value is not None}
            if error := trace.get(f"error_{name}"):
                pairs = zip(trace[name], error["array"], error["arrayminus"], strict=True)
                values |= {
                    end for at, *away in pairs if None not in away for end in (at + away[0], at - away[1])
                }
        known["y"] |= set(itertools.chain.from_iterable(trace.get("z", ())))
        known["y"] |= set(itertools.chain.from_iterable(trace.get("customdata", ())))
    for shape in layout["shapes"]:
        for name, values in known.items():
            values |= {shape[f"{name}0"], shape[f"{name}1"]}
    for name, values in known.items():
        expected = np.array(six_digits(np.concatenate([[], *map(np.ravel, numbers(figure, name))])))
        have = np.array(sorted(values))
        nearest = have[np.abs(have[:, None] - expected).argmin(0)]
        np.testing.assert_allclose(nearest, expected, rtol=2e-5, atol=1e-9)


def test_all_that_draws_is_tested():
    found = set()
    for info in pkgutil.iter_modules(report.__path__, "cnnjax.report."):
        module = importlib.import_module(info.name)
        public = [each for name, each in vars(module).items() if not name.startswith("_")]
        own = [each for each in public if getattr(each, "__module__", "") == info.name]
        found |= {each for each in own if hasattr(each, "__wrapped__")}  # by `styled`
    assert found == set(FIGURES)


@pytest.mark.parametrize(
    "function", FIGURES, ids=lambda function: f"{function.__module__}.{function.__name__}"
)
def test_a_legend_of_a_figure_is_one_of_the_page(drawn, function):
    figure = drawn[function]
    legends = [axes.get_legend() for axes in figure.axes if axes.get_legend()]
    told = {text.get_text() for legend in legends for text in legend.get_texts()}
    translated = interactive(figure)
    shown = [each for each in (*translated["data"], *translated["layout"]["shapes"]) if each["showlegend"]]
    assert told <= {each["name"] for each in shown}
    assert len(shown) == len({each["name"] for each in shown})  # once each
    assert all(each["legendgroup"] == each["name"] for each in shown)


def drawing(rows=1, columns=1, **options):
    figure, axes = panels(rows, columns, **options)
    return figure, axes[0][0] if rows == columns == 1 else axes


def test_lines_marks_and_bands():
    figure, axis = drawing()
    (line,) = axis.plot([1, 2, 3], [0.1234567, np.nan, 3], "--s", color="#0072b2", linewidth=1.5, label="a<b")
    axis.fill_between([1, 2], [0, 1], [2, 3], color=line.get_color(), alpha=0.25)
    axis.plot([1], [2], "x", color="black", markersize=6)
    found = interactive(figure)["data"]
    band, line, cross = found  # bands below
    assert line["x"] == [1, 2, 3]
    assert line["y"] == [0.123457, None, 3]
    assert line["line"] == {"color": "rgb(0,114,178)", "width": 2, "dash": "dash"}
    assert line["marker"]["symbol"] == "square"
    assert line["mode"] == "lines+markers"
    assert line["name"] == line["legendgroup"] == "a&lt;b"
    assert line["showlegend"]
    assert band["legendgroup"] == "a&lt;b"
    assert not band["showlegend"]
    assert band["fill"] == "toself"
    assert band["fillcolor"] == "rgba(0,114,178,0.25)"
    corners = {(1, 0), (1, 2), (2, 3), (2, 1)}
    assert set(zip(band["x"], band["y"], strict=True)) - {(None, None)} == corners
    assert cross["mode"] == "markers"
    assert cross["marker"]["symbol"] == "x-thin-open"
    assert cross["marker"]["color"] == "rgb(128,128,128)"
    assert "legendgroup" not in cross


def test_families_are_one_over_all_panels():
    figure, axes = drawing(1, 2, sharex=True)
    for axis in axes[0]:
        axis.plot([1, 2], [3, 4], color="C0", label="one")
        axis.plot([1, 2], [4, 5], color="C0")
        axis.plot([1, 2], [5, 6], color="C1", label="two")
    axes[0][1].plot([1, 2], [6, 7], color="C2")
    found = interactive(figure)
    assert [trace.get("legendgroup") for trace in found["data"]] == ["one", "one", "two"] * 2 + [None]
    assert [trace["showlegend"] for trace in found["data"]] == [True, False, True] + [False] * 4
    assert [trace["xaxis"] for trace in found["data"]] == ["x"] * 3 + ["x2"] * 4
    assert found["layout"]["xaxis2"]["matches"] == "x"
    assert "matches" not in found["layout"]["yaxis2"]
    left, right = (found["layout"][name]["domain"] for name in ("xaxis", "xaxis2"))
    assert left[0] == 0
    assert left[1] < right[0]
    assert right[1] == 1


def test_axes():
    figure, axis = drawing()
    axis.plot([1, 100], [3, 1])
    axis.set(xscale="log", xlim=(1, 1000), ylim=(4, 0), xlabel="x < 1\ny", title="title")
    axis.set_yticks([1, 3], ["one", "three"])
    axis.grid(False)
    axis.axhline(2, label="line")
    axis.axvspan(10, 20)
    found = interactive(figure)
    layout = found["layout"]
    assert layout["xaxis"]["type"] == "log"
    assert layout["xaxis"]["range"] == [0, 3]
    assert layout["xaxis"]["title"]["text"] == "x &lt; 1<br>y"
    assert "ticktext" not in layout["xaxis"]
    assert layout["yaxis"]["range"] == [4, 0]
    assert layout["yaxis"]["ticktext"] == ["one", "three"]
    assert layout["yaxis"]["tickvals"] == [1, 3]
    assert not layout["xaxis"]["showgrid"]
    assert [note["text"] for note in layout["annotations"]] == ["title"]
    band, line = layout["shapes"]
    assert (line["xref"], line["yref"], line["y0"], line["y1"]) == ("x domain", "y", 2, 2)
    assert line["name"] == "line"
    assert line["showlegend"]
    assert (band["xref"], band["yref"], band["x0"], band["x1"]) == ("x", "y domain", 10, 20)
    axis.set_xscale("symlog")
    assert interactive(figure)["layout"]["xaxis"]["title"]["text"].endswith("(linear here)")


def test_bars_and_their_labels():
    figure, axis = drawing()
    axis.bar(["u", "v"], [1, np.nan], 0.5, bottom=[2, 0], label="a")
    axis.bar_label(axis.barh([5], [3]))
    found = interactive(figure)
    first, second, label, *_ = found["data"]
    assert (first["x"], first["y"], first["base"]) == ([0, 1], [1, None], [2, 0])
    assert first["width"] == [0.5, 0.5]
    assert first["orientation"] == "v"
    assert (second["y"], second["x"], second["orientation"]) == ([5], [3], "h")
    assert (label["x"], label["y"], label["text"]) == ([3], [5], ["3"])
    assert found["layout"]["xaxis"]["ticktext"][:2] == ["u", "v"]


def test_error_bars():
    figure, axis = drawing()
    axis.errorbar([1, 2], [3, 4], [[0.5, 0.25], [1, np.nan]], [0.1, 0.2], fmt="o", label="seeds", capsize=3)
    (trace,) = interactive(figure)["data"]
    assert trace["name"] == "seeds"
    assert trace["mode"] == "markers"
    up, across = trace["error_y"], trace["error_x"]
    assert (up["arrayminus"], up["array"]) == ([0.5, None], [1, None])
    assert (across["arrayminus"], across["array"]) == ([0.1, 0.2], [0.1, 0.2])


def test_pictures():
    figure, axis = drawing()
    image = axis.imshow(np.arange(6.0).reshape(2, 3), extent=(0, 3, 0, 2), vmin=-1, vmax=9, cmap="gray")
    figure.colorbar(image, ax=axis, label="value")
    (trace,) = interactive(figure)["data"]
    assert trace["z"] == [[0, 1, 2], [3, 4, 5]]
    assert (trace["zmin"], trace["zmax"]) == (-1, 9)
    assert trace["x"] == [0.5, 1.5, 2.5]
    assert trace["y"] == [1.5, 0.5]
    assert trace["colorscale"][0] == [0, "rgb(0,0,0)"]
    assert trace["colorscale"][-1] == [1, "rgb(255,255,255)"]
    assert trace["showscale"]
    assert trace["colorbar"]["title"]["text"] == "value"


def test_a_logarithmic_mesh():
    figure, axis = drawing()
    values = np.array([[1.0, 10, 100], [1000, 100, 10]])
    mesh = axis.pcolormesh([0, 1, 2], [5, 6], values, shading="gouraud", norm="log")
    axis.contour([0, 1, 2], [5, 6], values, levels=[10.0], colors="black")
    bar = figure.colorbar(mesh, cax=axis.inset_axes((1, 0, 0.1, 1)))
    bar.set_ticks([1, 100])
    trace, contours = interactive(figure)["data"]
    assert trace["x"] == [0, 1, 2]
    assert trace["y"] == [5, 6]
    assert (trace["zmin"], trace["zmax"]) == (0, 3)
    np.testing.assert_allclose(trace["z"], np.log10(values), rtol=1e-6)
    assert trace["customdata"] == values.tolist()
    assert (trace["colorbar"]["tickvals"], trace["colorbar"]["ticktext"]) == ([0, 2], ["1", "100"])
    assert contours["mode"] == "lines"
    assert 1 in contours["x"]
    edges = axis.pcolormesh([0, 1, 2], [5, 6], [[7.0, 8.0]])
    assert interactive(figure)["data"][2]["x"] == [0.5, 1.5]
    assert edges.get_array().shape == (1, 2)


@pytest.mark.parametrize(
    "draw",
    [
        lambda axis: axis.scatter([1], [2]),
        lambda axis: axis.contourf([[1.0, 2.0], [3.0, 4.0]]),
        lambda axis: axis.step([1, 2], [3, 4]),
        lambda axis: axis.text(0, 0, "corner", transform=axis.transAxes),
        lambda axis: axis.annotate("here", (0, 0), (1, 1), arrowprops={}),
        lambda axis: axis.add_patch(__import__("matplotlib").patches.Circle((0, 0))),
        lambda axis: axis.set_xscale("logit"),
    ],
)
def test_what_has_no_translation_is_refused(draw):
    figure, axis = drawing()
    draw(axis)
    with pytest.raises(NotImplementedError):
        interactive(figure)


def test_save_writes_each_file(tmp_path):
    figure, axis = drawing()
    axis.plot([1, 2], [3, 4])
    paths = save(figure, tmp_path / "figure", "title")
    starts = {"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF", "json": b"{"}
    assert {kind: path.read_bytes()[: len(starts[kind])] for kind, path in paths.items()} == starts
    assert {path.suffix[1:]: path.stem for path in paths.values()} == dict.fromkeys(starts, "figure")
    read = json.loads(paths["json"].read_text())
    assert read["layout"]["title"]["text"] == "title"
    assert read["data"][0]["y"] == [3, 4]


def test_colours_can_be_told_apart_by_the_colour_blind():
    """Okabe & Ito 2008; a figure has as many as it needs."""
    assert list(shared.categories("ab").values()) == list(shared.COLOURS[:2])
    many = shared.categories(range(9))
    assert len({tuple(colour) for colour in many.values()}) == 9
    figure = Figure()
    line = shared.styled(lambda: figure.subplots().plot([1, 2])[0])()
    assert line.get_color() == shared.COLOURS[0]
