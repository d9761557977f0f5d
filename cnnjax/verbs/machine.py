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
        from cnnjax.counting.table import table
        from cnnjax.runs import runs_table

        rows = runs_table(self.folder)
        if len(rows) == 1:
            raise UserError(f"there is no run in {self.folder}")
        print("\n".join(table(rows, left=4, ruled={0})))


@dataclasses.dataclass(frozen=True)
class Doctor:
    """Show versions, devices, data sets and folders, and what would be slow or fail here."""

    def run(self) -> None:
        """Print the report."""
        from cnnjax.doctor import report

        print(report())
