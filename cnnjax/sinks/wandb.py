"""Weights & Biases."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cnnjax.files import read_json, write_json
from cnnjax.sinks.media import MediaSink
from cnnjax.sinks.sink import missing


class WandB(MediaSink):
    """Logs to Weights & Biases, whose own files lie in `FOLDER/wandb`; `WANDB_MODE=offline` needs no network.

    A run that goes on is the same run there (`resume="allow"`). Offline, where what the server has can't be
    asked, rows wait for the next checkpoint, and so are never repeated; `wandb sync` sends all parts.

    Args:
        project: its project.
        options: other arguments of `wandb.init`, such as `entity` or `tags`.

    Raises:
        UserError: wandb is not installed.
    """

    def __init__(self, project: str = "cnnjax", **options: Any):
        try:
            import wandb  # pyright: ignore[reportMissingImports]
        except ImportError:
            raise missing("wandb") from None
        super().__init__(wandb, {"project": project, **options})

    def open(self, folder: Path, config: Mapping[str, Any], run_id: str) -> int:
        """Begin the run, or go on with it."""
        whole = folder.resolve()
        options = {
            "name": whole.name,
            "group": whole.parent.name,
            "settings": self._library.Settings(console="off"),
            **self._options,
        }
        self._run = self._library.init(
            id=run_id, dir=str(whole), config=dict(config), resume="allow", reinit="create_new", **options
        )
        self._held: list[tuple[int, Mapping[str, Any]]] = []
        if not self._run.offline:
            return self._run.step - 1
        self._mark = whole / "wandb" / "offline.json"
        return read_json(self._mark)["step"] if self._mark.exists() else -1

    def send(self, step: int, row: Mapping[str, Any]) -> None:
        """Log a row, offline at the next flush."""
        self._held.append((step, row))
        if not self._run.offline:
            self._log()

    def _log(self) -> None:
        for step, row in self._held:
            self._run.log(row, step=step)
        self._held.clear()

    def flush(self) -> None:
        """Log what is left."""
        super().flush()
        if self._held:
            last, _ = self._held[-1]
            self._log()
            write_json(self._mark, {"step": last})

    def close(self) -> None:
        """Finish the run."""
        self.flush()
        self._run.finish()
