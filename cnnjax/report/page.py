"""One self-contained HTML page that can be explored: charts, tables, what was run, and where.

The page's content is data, embedded as JSON; `web/*.js` draws it with plotly.js, which is embedded too. It
asks nothing of any other place, and its content security policy forbids it.
"""

import dataclasses
import functools
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2

from cnnjax.errors import UserError
from cnnjax.files import replacing

WEB = Path(__file__).parent / "web"
SCRIPTS = ("dom", "tables", "charts", "curves", "layers", "page")
"""In this order: each uses those before it."""
MARK = '<meta name="generator" content="cnnjax report">'

Table = tuple[Sequence[str], Sequence[Sequence[str]]]
"""Header and rows."""


@dataclasses.dataclass
class Study:
    """What an experiment has found.

    Attributes:
        title: its question.
        text: paragraphs with `code` in backticks, an empty line between them.
        figures: caption to a plotly figure, an object with `data` and `layout`.
        tables: caption to header and rows.
    """

    title: str
    text: str = ""
    figures: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)
    tables: Mapping[str, Table] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass
class Comparison:
    """Settings of several: what all share, by name, and a table of those that differ."""

    shared: Mapping[str, str] = dataclasses.field(default_factory=dict)
    differing: Table = ((), ())


@dataclasses.dataclass
class Page:
    """The content of a report, as data that JSON can hold.

    Attributes:
        title: of the page.
        studies: of the experiments.
        overview: a row per run.
        compared: the families over their seeds (`cnnjax.report.compared_table.content`); empty unless two
            have finished runs.
        families: of runs that differ in their seeds only, each with a `label` and its `runs`.
        curves: what was measured along the steps (`cnnjax.report.series`); empty if nothing was.
        layers: statistics of layers against depth and step; empty without.
        samples: cosines between gradients of samples; empty without.
        configurations: of the runs, and the settings of experiments.
        environments: where they ran.
        commands: that made them.
    """

    title: str
    studies: Sequence[Study] = ()
    overview: Table = ((), ())
    compared: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    families: Sequence[Mapping[str, Any]] = ()
    curves: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    layers: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    samples: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    configurations: Comparison = dataclasses.field(default_factory=Comparison)
    environments: Comparison = dataclasses.field(default_factory=Comparison)
    commands: Sequence[str] = ()


def to_json(page: Page) -> str:
    """The page's content as JSON; numbers that are not finite are null."""
    return json.dumps(
        _finite(dataclasses.asdict(page)), allow_nan=False, ensure_ascii=False, separators=(",", ":")
    )


def render(page: Page, live: str = "") -> str:
    """The page as HTML; with `live`, it asks that address for new content every other second."""
    return _template().render(
        title=page.title,
        content=to_json(page).replace("<", "\\u003c"),  # no text in it can end the script
        mark=MARK,
        live=live,
        **_assets(),
    )


def write_page(path: Path, page: Page) -> None:
    """Write the page to `path`, whole or not at all."""
    with replacing(path) as file:
        file.write(render(page))


def check_writable(path: Path) -> None:
    """Raise UserError if `path` is a file that is no report of ours: it is not overwritten."""
    if not path.exists():
        return
    if not path.is_file() or MARK.encode() not in path.read_bytes()[:1000]:
        raise UserError(f"{path} exists and is no report of cnnjax: give another --out FILE.html")


@functools.cache
def _template() -> jinja2.Template:
    loader = jinja2.FileSystemLoader(WEB)
    return jinja2.Environment(loader=loader, autoescape=True, trim_blocks=True).get_template("page.html.j2")


@functools.cache
def _assets() -> dict[str, str]:
    return {
        "style": (WEB / "page.css").read_text(),
        "plotly": (WEB / "plotly-cartesian.min.js").read_text(),
        "script": "\n".join((WEB / f"{name}.js").read_text() for name in SCRIPTS),
    }


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    return value
