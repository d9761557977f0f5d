"""The libraries behind extras, offline: what a run that was stopped and went on left there is read back."""

import json
import struct

import pytest

from cnnjax import sinks
from cnnjax.errors import Interrupted
from cnnjax.files import read_json
from tests.sinks.test_sinks import StopAt, scalars
from tests.training.tiny import CONFIG, train

# These libraries warn of things of their own.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")


def stopped_and_continued(out, make):
    """Train in two parts, with a sink made anew for each; then write the lines of step 3 again."""
    said = []
    with pytest.raises(Interrupted):
        train(out, said.append, callbacks=[StopAt(1)], sinks=make())
    train(out, said.append, sinks=make())
    assert not [line for line in said if "failed" in line]
    repeated = sinks.Sinks([make()], out, CONFIG.to_json(), 2, pytest.fail)  # as after a kill
    repeated.start()
    repeated.write(3, {"train_loss": -1.0})
    repeated.write(4, {"train_loss": -1.0})
    repeated.close()


def close_to(folder):
    return {key: pytest.approx(float(value), rel=1e-6) for key, value in scalars(folder).items()}


def each_once(rows, step):
    """The metrics of rows by step and name; none comes twice."""
    found = [
        ((row[step], name), value)
        for row in rows
        for name, value in row.items()
        if name.startswith(("train_", "test_", "learning_rate"))
    ]
    assert len(dict(found)) == len(found)
    return dict(found)


def history(path):
    """The rows of a .wandb file: protocol buffers in LevelDB's log format, in blocks of 32 KiB."""
    from wandb.proto.wandb_internal_pb2 import Record

    data, place, parts, rows = path.read_bytes(), 7, b"", []
    while place + 7 <= len(data):
        if (left := 32768 - place % 32768) < 7:
            place += left
            continue
        size, kind = struct.unpack("<HB", data[place + 4 : place + 7])
        parts += data[place + 7 : place + 7 + size]
        place += 7 + size
        if kind in (1, 4):  # whole, or the last part
            record, parts = Record.FromString(parts), b""
            if record.HasField("history"):
                items = record.history.item
                rows.append(
                    {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in items}
                )
    return rows


def test_wandb(monkeypatch, tmp_path):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    out = tmp_path / "run"
    stopped_and_continued(out, sinks.WandB)
    files = sorted((out / "wandb").glob("offline-run-*/*.wandb"))
    assert {path.stem for path in files} == {f"run-{read_json(out / 'sinks.json')['id']}"}
    rows = [row for path in files for row in history(path)]
    assert each_once(rows, "_step") == close_to(out)
    assert any(name.startswith("layers/rms") for name in rows[0])


def test_mlflow(tmp_path):
    mlflow = pytest.importorskip("mlflow")
    pytest.importorskip("sqlalchemy", reason="mlflow-skinny has no database")
    uri, out = f"sqlite:///{tmp_path}/mlflow.db", tmp_path / "run"
    stopped_and_continued(out, lambda: sinks.MLflow(uri=uri))
    client = mlflow.MlflowClient(uri)
    experiment = client.get_experiment_by_name("cnnjax")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "run"
    assert run.data.params["model"] == "resnet8"
    found = {
        (metric.step, name): metric.value
        for name in run.data.metrics
        for metric in client.get_metric_history(run.info.run_id, name)
    }
    assert found == close_to(out)
    assert sum(len(client.get_metric_history(run.info.run_id, name)) for name in run.data.metrics) == len(
        found
    )


def test_trackio(monkeypatch, tmp_path):
    pytest.importorskip("trackio")
    from trackio import sqlite_storage, utils

    for module in (sqlite_storage, utils):
        monkeypatch.setattr(module, "TRACKIO_DIR", tmp_path)
    out = tmp_path / "run"
    stopped_and_continued(out, sinks.Trackio)
    storage = sqlite_storage.SQLiteStorage
    (name,) = storage.get_runs("cnnjax")
    assert name == f"run-{read_json(out / 'sinks.json')['id']}"
    rows = storage.get_logs("cnnjax", name)
    assert each_once(rows, "step") == close_to(out)
    assert rows[0]["layers/rms"]["_type"] == "trackio.histogram"


def test_metrax(tmp_path):
    logging = pytest.importorskip("metrax.logging")
    out = tmp_path / "run"
    train(out, sinks=logging.TensorboardBackend(str(out / "tensorboard")))
    from tests.sinks.test_sinks import values

    assert values(out, "simple_value") == close_to(out)
