"""The verbs `cnnjax report` and `cnnjax watch`: a page of runs and experiments, once or while they go on."""

import dataclasses
import sys
from pathlib import Path
from typing import Annotated

import tyro

from cnnjax.errors import UserError


@dataclasses.dataclass(frozen=True)
class Report:
    """Write one page about runs and experiments, to be explored offline: curves, layers, tables, settings."""

    folders: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="FOLDER [FOLDER ...]")]
    """Folders of runs or experiments, or that hold some."""
    out: Path | None = None
    """The page; by default report.html in the folder, or in the one that holds all that are named."""
    figures: bool = False
    """Whether to draw the errors as PNG, SVG and PDF beside it."""

    def run(self) -> None:
        """Print the paths that were written."""
        _check(self.folders)

        from cnnjax.report.contents import common_folder, report_of
        from cnnjax.report.page import check_writable, write_page

        page = report_of(self.folders)
        out = common_folder(self.folders) / "report.html" if self.out is None else self.out
        check_writable(out)
        write_page(out, page)
        print(out)
        if self.figures:
            print("\n".join(map(str, self._draw(out.with_name(f"{out.stem}_curves")))))

    def _draw(self, stem: Path) -> list[Path]:
        from cnnjax.report.curves import error_curves
        from cnnjax.report.families import families_of
        from cnnjax.report.records import find_records

        needed = {"train_error", "test_error"}
        drawn = {
            label: [run.folder / "metrics.jsonl" for run in runs]
            for label, runs in families_of(find_records(self.folders))
            if all(needed <= {name for line in run.lines for name in line} for run in runs)
        }
        if not drawn:
            raise UserError("--figures: no run has training and test errors yet; leave it out")
        return list(error_curves({"": drawn}, stem, "").values())


@dataclasses.dataclass(frozen=True)
class Watch:
    """Serve the report's page while runs go on; it follows them without reloading. Ctrl-C ends it."""

    folders: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="FOLDER [FOLDER ...]")]
    """Folders of runs or experiments, or in which some will appear."""
    host: str = "127.0.0.1"
    """Address to listen on; by default this machine's own, which no other can reach."""
    port: int = 8787
    """Port to listen on; 0 takes any that is free."""

    def run(self) -> None:
        """Print the address, and serve."""
        _check(self.folders)

        from cnnjax.report.server import serve

        serve(self.folders, self.host, self.port)


def write_run_report(folder: Path) -> None:
    """Write report.html into the folder of a run that has ended; what is in the way is told, and left."""
    from cnnjax.distributed import first
    from cnnjax.report.contents import report_of
    from cnnjax.report.page import check_writable, write_page

    if not first():
        return
    out = folder / "report.html"
    try:
        check_writable(out)
        write_page(out, report_of([folder]))
    except (UserError, OSError) as error:  # the run itself is whole
        print(f"no report was written: {error}", file=sys.stderr)


def _check(folders: tuple[Path, ...]) -> None:
    if not folders:
        raise UserError("give a folder, such as runs/degradation")
