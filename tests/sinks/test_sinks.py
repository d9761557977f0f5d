"""Sinks: TensorBoard read back by its own reader, and every promise of `Sink` by one of our own."""

import dataclasses
import os
import signal
import struct

import numpy as np
import pytest
from tensorboardX.proto.event_pb2 import Event

import cnnjax
from cnnjax.errors import Interrupted, UserError
from cnnjax.files import read_jsonl
from cnnjax.sinks import RowSink, Sink, Sinks, TensorBoard, make_sinks
from tests.sinks.mine import Broken, Notes, notes
from tests.training.tiny import CONFIG, DATA, train


def events(folder):
    """TensorBoard's events in the order of the files: records of length, checksum, event, checksum."""
    found = []
    for path in sorted((folder / "tensorboard").iterdir()):
        data = path.read_bytes()
        while data:
            (size,) = struct.unpack("<Q", data[:8])
            found.append(Event.FromString(data[12 : 12 + size]))
            data = data[16 + size :]
    return found


def values(folder, kind):
    """Values by step and name, as TensorBoard shows them: later files take back the steps from theirs on."""
    found = {}
    for event in events(folder):
        if event.HasField("session_log"):
            found = {(step, name): value for (step, name), value in found.items() if step < event.step}
        for value in event.summary.value:
            if value.HasField(kind):
                assert (event.step, value.tag) not in found
                found[event.step, value.tag] = getattr(value, kind)
    return found


def lines_of(folder):
    return [
        {name: value for name, value in line.items() if name != "time"}
        for line in read_jsonl(folder / "metrics.jsonl")
    ]


def scalars(folder):
    return {
        (line["step"], name): np.float32(value)
        for line in lines_of(folder)
        for name, value in line.items()
        if name != "step"
    }


class StopAt(cnnjax.Callback):
    def __init__(self, step):
        self._step = step

    def on_step(self, step, metrics):
        if step == self._step:
            os.kill(os.getpid(), signal.SIGTERM)


@pytest.fixture(scope="module")
def logged(tmp_path_factory):
    """A run that was stopped at step 3 and went on, with TensorBoard by name and a sink of ours."""
    out = tmp_path_factory.mktemp("logged")
    with pytest.raises(Interrupted):
        train(out, callbacks=[StopAt(1)], sinks=["tensorboard", Notes()])
    train(out, sinks=["tensorboard", Notes()])
    return out


def test_tensorboard_has_every_number_once(logged):
    assert {key: np.float32(value) for key, value in values(logged, "simple_value").items()} == scalars(
        logged
    )


def test_tensorboard_has_histograms_over_depth(logged):
    found = values(logged, "histo")
    for step in range(1, CONFIG.steps + 1):
        arrays = np.load(logged / "probes" / f"step_{step - 1}.npz")
        for name in ("rms", "weight_gradient_norm"):
            histogram = found[step, f"layers/{name}"]
            assert histogram.num == len(arrays["layers"])
            assert histogram.sum == pytest.approx(arrays[name].sum(), rel=1e-6)
            assert sum(histogram.bucket) == histogram.num
    assert (1, "layers/layers") not in found  # names are no numbers
    assert (1, "layers/gradient_cosine") not in found  # of the first step, all NaN


def test_tensorboard_shows_figures(tmp_path):
    from PIL import Image

    Image.fromarray(np.full((4, 6, 3), 200, np.uint8)).save(tmp_path / "curve.png")
    sinks = Sinks([TensorBoard()], tmp_path, {}, 0, print)
    sinks.start()
    sinks.figure(7, "curve", tmp_path / "curve.png")
    sinks.close()
    image = values(tmp_path, "image")[7, "curve"]
    assert (image.height, image.width) == (4, 6)


def test_a_sink_of_ones_own_is_told_all_in_order(logged):
    told = notes(logged)
    starts = [words for words in told if words[0] == "start"]
    assert [words[1] for words in starts] == ["resnet8", "resnet8"]
    assert starts[0][2] == 0
    assert 0 < starts[1][2] < CONFIG.steps
    assert told[-1] == ["close"]
    written = [{"step": words[1], **words[2]} for words in told if words[0] == "write"]
    assert written == lines_of(logged)
    for index, words in enumerate(told):
        if words[0] == "histograms":
            assert told[index + 1][:2] == ["write", words[1]]  # of the same step, so rows are whole


def test_a_sink_that_fails_is_left_out_and_the_run_is_the_same(tmp_path, logged):
    said = []
    result = train(tmp_path, said.append, sinks=[Broken(), Notes()])
    assert lines_of(tmp_path) == lines_of(logged)
    assert said == [
        f"{tmp_path}: Broken failed (ConnectionError: the network is down): the run goes on without it"
    ]
    assert len([words for words in notes(tmp_path) if words[0] == "write"]) == len(lines_of(tmp_path))
    assert result.metrics == cnnjax.open_run(logged).final


def test_a_finished_run_starts_no_sink(logged):
    before = notes(logged)
    train(logged, sinks=[Notes()])
    assert notes(logged) == before


def test_each_of_several_runs_has_its_own(tmp_path):
    configs = [dataclasses.replace(CONFIG, seed=seed, steps=2) for seed in (0, 1)]
    outs = [tmp_path / "0", tmp_path / "1"]
    cnnjax.train_many(configs, outs, "vmap", data=DATA, sinks=Notes(), say=lambda line: None)
    for out in outs:
        assert [w[2] for w in notes(out) if w[0] == "write"] == [
            {name: value for name, value in line.items() if name != "step"} for line in lines_of(out)
        ]
    with pytest.raises(UserError, match=r"a Scalars is that of one run; give several runs a cnnjax\.sinks"):
        cnnjax.train_many(configs, [tmp_path / "2", tmp_path / "3"], data=DATA, sinks=Scalars())
    assert not (tmp_path / "2").exists()


class Scalars:
    """An object with metrax's logging protocol."""

    def __init__(self):
        self.scalars, self.closed = {}, False

    def log_scalar(self, event, value, **kwargs):
        self.scalars[kwargs["step"], event] = np.float32(value)

    def close(self):
        self.closed = True


def test_whatever_speaks_metraxs_protocol_is_a_sink(tmp_path):
    backend = Scalars()
    train(tmp_path, config=dataclasses.replace(CONFIG, steps=2), sinks=backend)
    assert backend.scalars == scalars(tmp_path)
    assert backend.closed


class Rows(RowSink):
    """A backend that lives on when the process is killed."""

    def __init__(self):
        self.has, self.ids = [], set()

    def open(self, folder, config, run_id):
        self.ids.add(run_id)
        return max((step for step, _ in self.has), default=-1)

    def send(self, step, row):
        self.has.append((step, dict(row)))


def test_rows_are_whole_and_each_is_sent_once(tmp_path):
    sink = Rows()

    def start(step):
        sinks = Sinks([sink], tmp_path, {}, step, print)
        sinks.start()
        return sinks

    killed = start(0)
    for step in (1, 2, 3):
        killed.write(step, {"train_loss": 1 / step})
    killed.flush()  # checkpoint 3
    killed.write(4, {"train_loss": 1 / 4})
    killed.write(5, {"train_loss": 1 / 5})  # killed before its test
    again = start(3)
    again.write(3, {"test_loss": 0.5})  # the test that a stop had come before
    for step in (4, 5, 6):
        again.write(step, {"train_loss": 1 / step})
        if step == 5:
            again.write(5, {"test_loss": 0.25})
    again.flush()
    trained = [(step, {"train_loss": 1 / step}) for step in (1, 2, 3, 4)]
    assert sink.has == [
        *trained[:3],
        trained[3],
        (3, {"test_loss": 0.5}),
        (5, {"train_loss": 1 / 5, "test_loss": 0.25}),
        (6, {"train_loss": 1 / 6}),
    ]
    assert len(sink.ids) == 1


def test_names_become_sinks(tmp_path):
    first, second, third = make_sinks(["tensorboard", "tests.sinks.mine:Notes", Broken()])
    assert isinstance(first, TensorBoard)
    assert (type(second).__name__, third.name) == ("Notes", "Broken")
    assert make_sinks("tensorboard")[0].name == "TensorBoard"
    for given, message in (
        ("tensorbord", "sinks='tensorbord': must be of tensorboard, wandb, mlflow, trackio, or your own"),
        (["wandb", "wandb"], "sinks: wandb is given twice"),
        (TensorBoard, r"sinks=TensorBoard is a class: give an instance, TensorBoard\(\)"),
        (3, r"sinks=3: must be a cnnjax\.sinks\.Sink, or have log_scalar and close"),
    ):
        with pytest.raises(UserError, match=message):
            make_sinks(given)


@pytest.mark.parametrize("library", ["wandb", "mlflow", "trackio"])
def test_a_library_that_is_missing_is_told_before_anything_is_written(monkeypatch, tmp_path, library):
    monkeypatch.setitem(__import__("sys").modules, library, None)
    with pytest.raises(UserError, match=rf'{library} is not installed: pip install "cnnjax\[{library}\]"'):
        train(tmp_path / "run", sinks=library)
    assert not (tmp_path / "run").exists()


def test_what_a_sink_need_not_do():
    Sinks([Sink()], "folder", {}, 0, pytest.fail).histograms(1, {"x": np.array([np.nan]), "y": ["a"]})


def test_tensorboard_keeps_a_file_of_the_same_second(monkeypatch, tmp_path):
    """It names a file by the second, and a run may go on within it."""
    monkeypatch.setattr("time.time", lambda: 1e9)
    for step in (0, 2):
        sink = TensorBoard()
        sink.start(tmp_path, {}, step)
        sink.write(step + 1, {"train_loss": 1.0})
        sink.close()
    assert values(tmp_path, "simple_value").keys() == {(1, "train_loss"), (3, "train_loss")}
