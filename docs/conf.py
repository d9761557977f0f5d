"""The documentation's builder: `python -m sphinx -W --keep-going docs build/docs`, then open index.html.

The site works from the file system and asks nothing of the network: formulas are MathML, fonts the system's.
"""

import re

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.application import Sphinx
from sphinx.writers.html5 import HTML5Translator

import cnnjax

project = "cnnjax"
author = "The cnnjax authors"
copyright = "the cnnjax authors"
version = release = cnnjax.__version__

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
exclude_patterns = ["jupyter_execute"]

myst_enable_extensions = ["dollarmath", "colon_fence"]
myst_heading_anchors = 3
nb_execution_mode = "cache"
nb_execution_raise_on_error = True
nb_execution_in_temp = True  # what a notebook writes is gone afterwards
nb_execution_timeout = 600

default_role = "literal"
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
napoleon_numpy_docstring = False
napoleon_use_ivar = True
add_module_names = False

html_theme = "furo"
html_title = "cnnjax"
html_static_path = ["_static"]
html_css_files = ["cnnjax.css"]
html_math_renderer = "mathml"
html_show_sphinx = False
html_copy_source = False


def _inline(self: HTML5Translator, node: nodes.math) -> None:
    self.body.append(convert(node.astext()))
    raise nodes.SkipNode


def _display(self: HTML5Translator, node: nodes.math_block) -> None:
    self.body.append(f'<div class="formula" tabindex="0">{convert(node.astext(), display="block")}</div>')
    raise nodes.SkipNode


def _as_prose(app: Sphinx, what: str, name: str, thing: object, options: object, lines: list[str]) -> None:
    """Outside backticks our docstrings are prose: their | and * are no markup."""
    code = False
    for number, line in enumerate(lines):
        code = line.startswith("    ") or not line if code else line.endswith("::")
        if not code and not re.match(r" +\*+\w+:", line):  # of an argument's name napoleon takes care
            parts = line.split("`")
            parts[::2] = [re.sub(r"([|*])", r"\\\1", prose) for prose in parts[::2]]
            lines[number] = "`".join(parts)
    if what in ("attribute", "data", "property"):
        lines.insert(0, "")  # or napoleon takes what is before a colon for a type


def setup(app: Sphinx) -> None:
    """Write formulas as MathML, which browsers show by themselves; read docstrings as they are."""
    app.add_html_math_renderer("mathml", (_inline, None), (_display, None))
    app.connect("autodoc-process-docstring", _as_prose, priority=400)  # before napoleon
