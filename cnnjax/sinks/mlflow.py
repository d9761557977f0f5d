"""MLflow's tracking."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cnnjax.sinks.rows import RowSink
from cnnjax.sinks.sink import missing

AT_ONCE, SECONDS = 1000, 10  # MLflow takes at most so many metrics in a batch; a dashboard waits so long
ID_TAG, STEP_TAG = "cnnjax.id", "cnnjax.step"


class MLflow(RowSink):
    """Logs to MLflow, in batches; a run that goes on is the same run there, found by a tag.

    Args:
        experiment: its experiment, which is made if there is none.
        uri: of its tracking server or database; by default as MLflow has it (`MLFLOW_TRACKING_URI`).

    Raises:
        UserError: mlflow is not installed.
    """

    def __init__(self, experiment: str = "cnnjax", uri: str | None = None):
        try:
            import mlflow  # pyright: ignore[reportMissingImports]
        except ImportError:
            raise missing("mlflow") from None
        self._mlflow, self._experiment, self._uri = mlflow, experiment, uri

    def open(self, folder: Path, config: Mapping[str, Any], run_id: str) -> int:
        """Begin the run, or go on with it."""
        self._client = client = self._mlflow.MlflowClient(self._uri)
        self._metrics: list[Any] = []
        self._sent_at = time.monotonic()
        known = client.get_experiment_by_name(self._experiment)
        where = known.experiment_id if known else client.create_experiment(self._experiment)
        found = client.search_runs([where], f"tags.`{ID_TAG}` = '{run_id}'")
        if found:
            self._id = found[0].info.run_id
            client.update_run(self._id, status="RUNNING")
            return int(found[0].data.tags.get(STEP_TAG, -1))
        made = client.create_run(where, tags={ID_TAG: run_id}, run_name=folder.resolve().name)
        self._id = made.info.run_id
        entities = self._mlflow.entities
        params = [entities.Param(name, str(value)[:500]) for name, value in config.items()]
        for first in range(0, len(params), 100):  # at most so many at once
            client.log_batch(self._id, params=params[first : first + 100])
        return -1

    def send(self, step: int, row: Mapping[str, float]) -> None:
        """Add a row to the batch; it is sent when it is full, or ten seconds after the one before."""
        if len(self._metrics) + len(row) > AT_ONCE or time.monotonic() - self._sent_at > SECONDS:
            self._send_batch()
        now = round(1000 * time.time())
        metric = self._mlflow.entities.Metric
        self._metrics += [metric(name, value, now, step) for name, value in row.items()]

    def _send_batch(self) -> None:
        if self._metrics:
            # With the step, which says where to go on.
            tag = self._mlflow.entities.RunTag(STEP_TAG, str(self._metrics[-1].step))
            self._client.log_batch(self._id, metrics=self._metrics, tags=[tag])
        self._metrics, self._sent_at = [], time.monotonic()

    def figure(self, step: int, name: str, path: Path) -> None:
        """Keep the file as an artifact."""
        self._client.log_artifact(self._id, str(path))

    def flush(self) -> None:
        """Send what is left."""
        super().flush()
        self._send_batch()

    def close(self) -> None:
        """End the run."""
        self.flush()
        self._client.set_terminated(self._id)
