"""The verb `cnnjax compare`: families of runs side by side, over their seeds."""

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from cnnjax.errors import UserError
from cnnjax.files import replacing

if TYPE_CHECKING:
    from rich.console import Console

    from cnnjax.report.over_seeds import RunComparison

Format = Literal["text", "csv", "markdown", "latex"]
BY_ENDING: dict[str, Format] = {".csv": "csv", ".md": "markdown", ".tex": "latex", ".txt": "text"}


@dataclasses.dataclass(frozen=True)
class Compare:
    """Compare runs over their seeds: final errors, and paired tests against one family."""

    folders: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="FOLDER [FOLDER ...]")]
    """Folders of runs, or that hold some; runs that differ only in the seed are a family."""
    baseline: str | None = None
    """The family to compare the others with, as the table names it; by default the first."""
    metric: str = "test_error"
    """The metric of metrics.jsonl whose differences are tested."""
    format: Format | None = None
    """How to write the table; by default text, or as the ending of --out says (.csv, .md, .tex)."""
    out: Path | None = None
    """File to write the table to instead of printing it."""
    report: Path | None = None
    """HTML page to write besides: the curves of all on the same axes, the table, what was set otherwise."""

    def run(self) -> None:
        """Print the table, or write it."""
        if not self.folders:
            raise UserError("give folders of runs, such as runs/degradation")

        from cnnjax.report.over_seeds import compare_runs
        from cnnjax.report.page import check_writable

        form = self._form
        if self.report is not None:
            check_writable(self.report)
        found = compare_runs(*self.folders, metric=self.metric, baseline=self.baseline)
        self._write_table(found, form)
        if self.report is not None:
            self._write_report(self.report, found)

    @property
    def _form(self) -> Format:
        if self.format is not None or self.out is None:
            return self.format or "text"
        if self.out.suffix not in BY_ENDING:
            pages = "; pages are written by --report" if self.out.suffix == ".html" else ""
            raise UserError(
                f"--out {self.out}: give --format too, or an ending of {', '.join(BY_ENDING)}{pages}"
            )
        return BY_ENDING[self.out.suffix]

    def _write_table(self, found: "RunComparison", form: Format) -> None:
        from cnnjax.report import compared_table as forms

        if self.out is None and form == "text" and sys.stdout.isatty():
            from rich.console import Console

            print_table(found, Console(highlight=False, markup=False))
            return
        write = {"text": forms.as_text, "csv": forms.csv, "markdown": forms.markdown, "latex": forms.latex}
        if self.out is None:
            print(write[form](found))
            return
        with replacing(self.out) as file:
            print(write[form](found), file=file)
        print(self.out)

    def _write_report(self, path: Path, found: "RunComparison") -> None:
        from cnnjax.report.compared_table import content
        from cnnjax.report.contents import report_of
        from cnnjax.report.page import write_page

        page = report_of([folder.expanduser() for folder in self.folders])
        write_page(path, dataclasses.replace(page, compared=content(found)))
        print(path, file=sys.stderr if self.out is None else sys.stdout)  # a table is alone in stdout


def print_table(found: "RunComparison", console: "Console") -> None:
    """Print the table on a terminal, in parts below each other where it is narrow."""
    from rich import box
    from rich.table import Table

    from cnnjax.report.compared_table import header_and_rows, notes

    header, rows = header_and_rows(found)
    unlimited = console.options.update(width=sys.maxsize)

    def table(columns: Sequence[int]) -> Table:
        drawn = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        for index in columns:
            drawn.add_column(header[index], justify="right" if index else "left", no_wrap=index > 0)
        for row in rows:
            drawn.add_row(*(row[index] for index in columns))
        return drawn

    parts: list[list[int]] = [[0]]  # the family's name is in each
    for index in range(1, len(header)):
        wider = console.measure(table([*parts[-1], index]), options=unlimited).maximum > console.width
        if wider and len(parts[-1]) > 1:
            parts.append([0])
        parts[-1].append(index)
    for columns in parts:
        console.print(table(columns))
    console.print(*notes(found), sep="\n")
