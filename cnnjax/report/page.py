"""One self-contained HTML page: figures, tables, and what was run."""

import html
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from cnnjax.files import replacing

_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; color: #222 }}
body {{ max-width: 60rem; margin: 2rem auto; padding: 0 1rem }}
h1 {{ font-size: 1.5rem }}
figure {{ margin: 1rem 0 }}
svg {{ width: 100%; height: auto }}
table {{ border-collapse: collapse; font-variant-numeric: tabular-nums }}
th, td {{ padding: .3rem .9rem; text-align: right; border-bottom: 1px solid #ddd }}
th:first-child, td:first-child {{ text-align: left }}
pre {{ background: #f6f6f6; padding: 1rem; overflow: auto; font-size: .85rem }}
</style>
<h1>{title}</h1>
{text}
{figures}
{tables}
<h2>What was run</h2>
<pre>{config}</pre>
</html>
"""


Table = tuple[Sequence[str], Sequence[Sequence[str]]]
"""Header and rows."""


def write_page(
    path: Path,
    title: str,
    text: str,
    figures: Mapping[str, Path],
    tables: Mapping[str, Table],
    config: Path,
) -> None:
    """Write the page to `path` from SVG figures and tables, by their captions, and a JSON file."""
    page = _PAGE.format(
        title=html.escape(title),
        text="\n".join(f"<p>{_prose(paragraph)}</p>" for paragraph in text.strip().split("\n\n")),
        figures="\n".join(_figure(caption, svg.read_text()) for caption, svg in figures.items()),
        tables="\n".join(_table(caption, *table) for caption, table in tables.items()),
        config=html.escape(config.read_text()),
    )
    with replacing(path) as file:
        file.write(page)


def _figure(caption: str, svg: str) -> str:
    return f"<figure>{svg[svg.index('<svg') :]}<figcaption>{_prose(caption)}</figcaption></figure>"


def _table(caption: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = "\n".join(f"<tr>{_cells('td', row)}</tr>" for row in rows)
    return f"<table>\n<tr>{_cells('th', header)}</tr>\n{lines}\n</table>\n<p>{_prose(caption)}</p>"


def _prose(text: str) -> str:
    return re.sub("`(.*?)`", r"<code>\1</code>", html.escape(text))


def _cells(tag: str, values: Sequence[str]) -> str:
    return "".join(f"<{tag}>{html.escape(value)}</{tag}>" for value in values)
