"""One self-contained HTML page: a figure, a table, and what was run."""

import html
import re
from collections.abc import Sequence
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
<figure>{figure}</figure>
<table>
<tr>{header}</tr>
{rows}
</table>
<p>Errors in percent, losses in nats; training values are means over the last tenth of the steps, test values
are those of the last step.</p>
<h2>What was run</h2>
<pre>{config}</pre>
</html>
"""


def write_page(
    path: Path,
    title: str,
    text: str,
    svg: Path,
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    config: Path,
) -> None:
    """Write the page to `path` from an SVG figure, a table and a JSON file of settings."""
    figure = svg.read_text()
    page = _PAGE.format(
        title=html.escape(title),
        text="\n".join(f"<p>{_prose(paragraph)}</p>" for paragraph in text.strip().split("\n\n")),
        figure=figure[figure.index("<svg") :],
        header=_cells("th", header),
        rows="\n".join(f"<tr>{_cells('td', row)}</tr>" for row in rows),
        config=html.escape(config.read_text()),
    )
    with replacing(path) as file:
        file.write(page)


def _prose(text: str) -> str:
    return re.sub("`(.*?)`", r"<code>\1</code>", html.escape(text))


def _cells(tag: str, values: Sequence[str]) -> str:
    return "".join(f"<{tag}>{html.escape(value)}</{tag}>" for value in values)
