"""trackio, Hugging Face's local tracker."""

import contextlib
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cnnjax.sinks.media import MediaSink
from cnnjax.sinks.sink import missing


class Trackio(MediaSink):
    """Logs to trackio's database on this machine (`TRACKIO_DIR`), or to a Space; a run goes on as the same.

    Args:
        project: its project.
        options: other arguments of `trackio.init`, such as `space_id`.

    Raises:
        UserError: trackio is not installed.
    """

    def __init__(self, project: str = "cnnjax", **options: Any):
        try:
            import trackio  # pyright: ignore[reportMissingImports]
        except ImportError:
            raise missing("trackio") from None
        super().__init__(trackio, {"project": project, **options})

    def open(self, folder: Path, config: Mapping[str, Any], run_id: str) -> int:
        """Begin the run, or go on with it; trackio knows runs by their names."""
        whole = folder.resolve()
        options = {"group": whole.parent.name, "embed": False, **self._options}
        name = f"{whole.name}-{run_id}"
        with contextlib.redirect_stdout(sys.stderr):
            self._run = self._library.init(name=name, config=dict(config), resume="allow", **options)
        return self._run._next_step - 1  # there is no public word for it

    def send(self, step: int, row: Mapping[str, Any]) -> None:
        """Log a row; trackio writes it in the background."""
        self._run.log(dict(row), step=step)

    def close(self) -> None:
        """Finish the run."""
        self.flush()
        with contextlib.redirect_stdout(sys.stderr):
            self._run.finish()
