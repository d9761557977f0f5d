"""The verb `cnnjax compare`: families of runs side by side, over their seeds."""

import dataclasses
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from cnnjax.errors import UserError
from cnnjax.files import replacing

if TYPE_CHECKING:
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
        from cnnjax.terminal import show

        write = {"text": str, "csv": forms.csv, "markdown": forms.markdown, "latex": forms.latex}
        if self.out is not None:
            with replacing(self.out) as file:
                print(write[form](found), file=file)
            print(self.out)
        elif form == "text":
            show(found)
        else:
            print(write[form](found))

    def _write_report(self, path: Path, found: "RunComparison") -> None:
        from cnnjax.report.compared_table import content
        from cnnjax.report.contents import report_of
        from cnnjax.report.page import write_page

        page = report_of([folder.expanduser() for folder in self.folders])
        write_page(path, dataclasses.replace(page, compared=content(found)))
        print(path, file=sys.stderr if self.out is None else sys.stdout)  # a table is alone in stdout
