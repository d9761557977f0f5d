"""The verbs about what is here: `cnnjax runs` and `cnnjax doctor`."""

import dataclasses
from pathlib import Path

import tyro

from cnnjax.errors import UserError


@dataclasses.dataclass(frozen=True)
class Runs:
    """List the runs below a folder: what was trained, the step reached, final errors, seconds."""

    folder: tyro.conf.Positional[Path] = Path("runs")
    """The folder to search."""

    def run(self) -> None:
        """Print the table."""
        from cnnjax.runs import RUN_COLUMNS, run_rows
        from cnnjax.terminal import show, table

        rows = run_rows(self.folder)
        if not rows:
            raise UserError(f"there is no run in {self.folder}")
        show(table(rows, RUN_COLUMNS, "llllr"))


@dataclasses.dataclass(frozen=True)
class Doctor:
    """Show versions, devices, data sets and folders, and what would be slow or fail here."""

    def run(self) -> None:
        """Print the report."""
        from cnnjax.doctor import report
        from cnnjax.terminal import show

        show(report())
