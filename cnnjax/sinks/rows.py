"""Sinks that can't take back what was sent: one row a step, each once."""

import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cnnjax.files import read_json, write_json
from cnnjax.sinks.sink import Sink

ID_FILE = "sinks.json"


class RowSink(Sink):
    """Sends one row a step, in growing steps; those that the backend has already are left out.

    After a kill, a run repeats the lines after its checkpoint, with the same values, so nothing is lost by
    that. A row is sent when the next one begins, or at a flush: the test metrics of a step come later than
    the training ones, and half a row could not be completed after a kill.
    """

    def open(self, folder: Path, config: Mapping[str, Any], run_id: str) -> int:
        """Begin the run `run_id` there, or go on with it; the last step that it has, -1 for none."""
        raise NotImplementedError(f"{type(self).__name__} must define open(self, folder, config, run_id)")

    def send(self, step: int, row: Mapping[str, Any]) -> None:
        """Send a row."""
        raise NotImplementedError(f"{type(self).__name__} must define send(self, step, row)")

    def start(self, folder: Path, config: Mapping[str, Any], step: int) -> None:
        """Open the run by the id that is kept in its folder."""
        self._row_step, self._row = step, {}
        self._resumed_at = step  # whose test may still come, if it was stopped in between
        self._last = self.open(folder, config, run_id(folder))

    def write(self, step: int, metrics: Mapping[str, Any]) -> None:
        """Add to the row of `step`, and send the one before."""
        if step != self._row_step:
            self._send_row()
            self._row_step = step
        self._row = {**self._row, **metrics}

    def flush(self) -> None:
        """Send the row that is left."""
        self._send_row()

    def _send_row(self) -> None:
        row, self._row = self._row, {}
        if row and (self._row_step > self._last or self._row_step == self._resumed_at):
            self.send(self._row_step, row)
            self._last = max(self._last, self._row_step)


def run_id(folder: Path) -> str:
    """The id by which backends know the run in `folder`, drawn at the first call and kept in sinks.json."""
    path = folder / ID_FILE
    if not path.exists():
        write_json(path, {"id": secrets.token_hex(8)})
    return read_json(path)["id"]
