"""The notebooks are pages of the site, whose builder runs every cell and stops where one fails (.ci/run).

Here: that it does run them, and that a reader can, with what `pip install` of cnnjax brings.
"""

import ast
import re
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = sorted((ROOT / "docs/notebooks").glob("*.md"))
CELL = re.compile(r"^```\{code-cell\} python\n((?::[^\n]*\n)*)(.*?)^```$", re.M | re.S)
DEPENDENCIES = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]

pytestmark = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)


def imported(code):
    """The packages that it imports."""
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            yield from (name.name.partition(".")[0] for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module.partition(".")[0]


def test_the_sites_builder_runs_every_cell(page):
    text = page.read_text()
    header, body = text.removeprefix("---\n").split("\n---\n", 1)
    assert "format_name: myst" in header  # or it is a page without cells
    assert "  name: python3" in header
    cells = CELL.findall(body)
    assert len(cells) == body.count("{code-cell}")
    tags = [tag for options, _ in cells for tag in re.findall(r"[\w-]+", options.removeprefix(":tags:"))]
    assert not {"skip-execution", "raises-exception"} & {*tags}
    assert tags.count("parameters") == 1
    assert f"\nnotebooks/{page.stem}\n" in (ROOT / "docs/index.md").read_text()


def test_cells_import_what_cnnjax_brings(page):
    ours = {re.match(r"[\w-]+", one)[0] for one in DEPENDENCIES} | {"cnnjax"} | sys.stdlib_module_names
    for _, code in CELL.findall(page.read_text()):
        assert {*imported(code)} <= ours
