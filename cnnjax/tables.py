"""Tables as CSV, Markdown and LaTeX."""

import csv
import io
import re
from collections.abc import Sequence

Row = Sequence[str]
TEX = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$"}


def as_csv(header: Row, rows: Sequence[Row]) -> str:
    """The lines of a CSV file."""
    file = io.StringIO()
    csv.writer(file, lineterminator="\n").writerows([header, *rows])
    return file.getvalue().rstrip("\n")


def as_markdown(header: Row, rows: Sequence[Row]) -> str:
    """A table of GitHub's Markdown; all columns but the first are to the right."""
    escaped = [tuple(cell.replace("|", r"\|") for cell in row) for row in (header, *rows)]
    first, *others = (f"| {' | '.join(row)} |" for row in escaped)
    rule = f"|{'|'.join([':---', *['---:'] * (len(header) - 1)])}|"
    return "\n".join([first, rule, *others])


def as_latex(header: Row, rows: Sequence[Row]) -> str:
    """A tabular for LaTeX with the package booktabs; all columns but the first are to the right."""
    first, *others = (f"{' & '.join(map(_tex, row))} \\\\" for row in (header, *rows))
    begin = f"\\begin{{tabular}}{{l{'r' * (len(header) - 1)}}}"
    return "\n".join([begin, r"\toprule", first, r"\midrule", *others, r"\bottomrule", r"\end{tabular}"])


def _tex(text: str) -> str:
    escaped = re.sub(r"[\\~^±&%$#_{}]", lambda found: TEX.get(found[0], f"\\{found[0]}"), text)
    return re.sub(r"(?<!\S)([-+])(?=\d)", r"$\1$", escaped)  # a sign, not a hyphen
