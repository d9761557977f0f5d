"""Command lines: tyro parses them, and what is wrong with one is said in one line."""

import contextlib
import io
import re
import sys
from typing import Any

import tyro

from cnnjax.errors import UserError


def parse(kind: Any, description: str | None, prog: str | None = None) -> Any:
    """An instance of `kind` from the command line of `prog`, or of the module that runs; `--help` ends here.

    Raises:
        UserError: the command line is wrong.
    """
    prog = prog or f"python -m {_module()}"
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            return tyro.cli(kind, prog=prog, description=description)
    except SystemExit as end:
        if not end.code:
            raise
        raise UserError(_one_line(said.getvalue(), prog)) from None


def _module() -> str:
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    return spec.name.removesuffix(".__main__") if spec else "cnnjax"


def _one_line(box: str, prog: str) -> str:
    """What tyro says in a box, without its frame and the help of the options that it names."""
    said, *hints = re.split(r"\n│ ─+ │", re.sub(r"\x1b\[[\d;]*m", "", box))
    lines = [line.strip("│ ") for line in said.splitlines() if line.startswith("│")]
    text = " ".join(lines).removeprefix("Error parsing ")
    near = [option for hint in hints if "Perhaps" in hint for option in re.findall(r"│ {5}(-.*?) +│", hint)]
    if near:
        text += f"; did you mean {' or '.join(dict.fromkeys(near))}?"
    return f"{text.rstrip('.')} (`{prog} --help` lists what there is)"
