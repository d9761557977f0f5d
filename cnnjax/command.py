"""Parse command lines with tyro, and report what is wrong with one in a single line."""

import contextlib
import io
import re
import sys
from typing import Any

import tyro

from cnnjax.errors import UserError


def parse(kind: Any, description: str | None, prog: str | None = None) -> Any:
    """Parse the command line of `prog`, or of the running module, into a `kind`; `--help` exits here.

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
    """Extract tyro's message from its box, without the frame and the help of the options it names."""
    said, *hints = _sections(box)
    text = said.removeprefix("Error parsing ").rstrip(".")
    for hint in hints:
        if hint.startswith("Perhaps you meant"):
            near = dict.fromkeys(re.findall(r"(?<= )--[\w.-]+", hint.partition(" in ")[0]))
            text += f"; did you mean {' or '.join(near)}?"
        elif hint.startswith("Available subcommands"):
            text += f"; there are{hint.partition(':')[2]}"
    return f"{text} (`{prog} --help` lists all)"


def _sections(box: str) -> list[str]:
    """The texts between the rules of the box, whose frame is drawn with lines or with blanks."""
    sections: list[list[str]] = [[]]
    for line in re.sub(r"\x1b\[[\d;]*m", "", box).splitlines():
        inside = line.strip("│ ")
        if re.fullmatch("[─-]+", inside):
            sections.append([])
        elif not inside.startswith(("╭", "╰")):
            sections[-1].append(inside)
    if "╭" not in box:
        del sections[0]  # the title
    return [" ".join(filter(None, section)) for section in sections]
