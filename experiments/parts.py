"""An experiment's runs divided among several jobs, such as those of an array, that share its folder."""

import contextlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from filelock import FileLock

from cnnjax.errors import UserError

T = TypeVar("T")
_HELD = contextlib.ExitStack()  # as long as the process


def of(part: str, runs: Mapping[str, T]) -> dict[str, T]:
    """The runs of part I/N: every Nth, so that each part has long and short ones.

    Raises:
        UserError: there is no such part, or it would be empty.
    """
    found = re.fullmatch(r"(\d+)/(\d+)", part)
    number, parts = map(int, found.groups()) if found else (0, 0)
    if not number < parts:
        raise UserError(f"--part {part}: must be I/N, from 0/N to N-1/N, such as 0/4")
    if parts > len(runs):
        raise UserError(f"--part {part}: there are {len(runs)} runs, so at most {len(runs)} parts")
    return {name: runs[name] for name in list(runs)[number::parts]}


def leave_unless_last(out: Path, results: Sequence[Path]) -> None:
    """Exit unless all results are there and no other part has drawn, or draws, them."""
    _HELD.enter_context(FileLock(out / ".parts.lock"))  # of two that end together one sees the other's work
    done = [path for path in results if path.exists()]
    summary = out / "summary.json"
    if len(done) < len(results):
        print(f"{len(done)} of {len(results)} runs are finished; the part that ends last draws the figure")
        raise SystemExit
    if summary.exists() and summary.stat().st_mtime > max(path.stat().st_mtime for path in results):
        print(f"{summary} is another part's, of all runs")
        raise SystemExit
