"""Whose a folder is: who may have it, who is refused, and what is left behind."""

import dataclasses
import fcntl
import json
import os
import shutil
import signal

import jax
import numpy as np
import pytest

from cnnjax.data.synthetic import synthetic
from cnnjax.errors import UserError
from cnnjax.files import read_jsonl
from cnnjax.training import lock
from cnnjax.training.lock import locked
from cnnjax.training.program import Program
from cnnjax.training.run_dir import _refusal, experiment_dir
from experiments.runner import run_all
from tests.training.tiny import CONFIG, DATA, contents, train


def changed(**fields):
    return dataclasses.replace(CONFIG, **fields)


def read(path):
    return json.loads(path.read_text())


def stopped_at_2(run):
    """Make a finished run one that was stopped at step 2."""
    shutil.rmtree(run / "checkpoints/4")
    (run / "result.json").unlink()
    lines = (run / "metrics.jsonl").read_text().splitlines(keepends=True)
    (run / "metrics.jsonl").write_text("".join(lines[:3]))


@pytest.mark.parametrize(
    "fields",
    [
        {"validation": 99_999_999},
        {"downsample": 3},
        {"model": "resnet7"},
        *({"model_options": each} for each in ({"widht": 2}, {"shortcut": "Z"}, {"num_classes": 3})),
        {"bn_group_size": 3},
    ],
)
def test_a_rejected_config_leaves_nothing(tmp_path, fields):
    with pytest.raises(UserError):
        train(tmp_path / "made/for/it", config=changed(**fields))
    assert not list(tmp_path.iterdir())
    (tmp_path / "was_there").mkdir()
    with pytest.raises(UserError):
        train(tmp_path / "was_there", config=changed(**fields))
    assert not list((tmp_path / "was_there").iterdir())


def test_a_first_step_that_fails_owns_nothing(monkeypatch, tmp_path):
    def fail(*_):
        raise RuntimeError("RESOURCE_EXHAUSTED")

    monkeypatch.setattr(Program, "train", fail)
    with pytest.raises(RuntimeError, match="RESOURCE_EXHAUSTED"):
        train(tmp_path / "run")
    assert not list(tmp_path.iterdir())


def test_a_signal_before_the_first_step_owns_nothing(ctrl_c, monkeypatch, tmp_path):
    plain = Program.init

    def init(*arguments):
        os.kill(os.getpid(), signal.SIGINT)
        return plain(*arguments)

    monkeypatch.setattr(Program, "init", init)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "run")
    assert not list(tmp_path.iterdir())


def test_a_claim_without_a_step_owns_nothing(run, tmp_path):
    """Such as a process that was killed leaves, or an older version's rejected command."""
    other = tmp_path / "other"
    (other / "checkpoints").mkdir(parents=True)
    (other / "config.json").write_text(json.dumps({"config": changed(batch_size=8).to_json()}))
    (other / ".lock").write_text("123")
    (other / "metrics.jsonl").touch()
    said = []
    result = train(other, said.append)
    assert said == []
    assert result.metrics == read(run / "result.json")["metrics"]
    assert read(other / "config.json")["config"] == CONFIG.to_json()
    assert "before" not in read(other / "config.json")
    assert not (other / ".lock").exists()


def test_one_process_to_a_folder(tmp_path):
    with locked(tmp_path / "made/run"):
        with (
            pytest.raises(UserError, match=f"made/run is in use by process {os.getpid()}"),
            locked(tmp_path / "made/run"),
        ):
            pass
        assert (tmp_path / "made/run/.lock").exists()
    assert not list(tmp_path.iterdir())
    with locked(tmp_path / "made/run"):
        (tmp_path / "made/file").touch()
    assert [path.name for path in (tmp_path / "made").iterdir()] == ["file"]


def test_a_lock_file_that_its_holder_removes_meanwhile_is_no_lock(monkeypatch, tmp_path):
    removed = []

    def flock(file, operation):
        if not removed:
            removed.append(True)
            (tmp_path / ".lock").unlink()
        fcntl.flock(file, operation)

    monkeypatch.setattr(lock, "fcntl", type("", (), {**vars(fcntl), "flock": staticmethod(flock)}))
    with locked(tmp_path):
        assert removed
        assert (tmp_path / ".lock").read_text() == str(os.getpid())


def test_other_data_is_refused_and_data_of_old_runs_unknown(run):
    other = synthetic(train=50, test=21, size=8, seed=1)
    before = contents(run)
    with pytest.raises(UserError, match=r"holds a run on other data \(digest .*: give the same data"):
        train(run, data=other)
    assert contents(run) == before

    stopped_at_2(run)
    for path in (run / "config.json", run / "checkpoints/2/run.json"):
        value = read(path)
        del value["data"]
        path.write_text(json.dumps(value))
    said = []
    (run / "checkpoints/2/sha256.json").write_text(
        json.dumps({k: v for k, v in read(run / "checkpoints/2/sha256.json").items() if k != "run.json"})
    )
    train(run, said.append)
    assert len([line for line in said if "did not record its data" in line]) == 1
    assert read(run / "config.json")["data"] == DATA.digest
    with pytest.raises(UserError, match="other data"):
        train(run, data=other)


def test_what_may_change_the_last_bits_is_said_in_one_line(run, tiny_run):
    stopped_at_2(run)
    held = read(run / "config.json")
    held["environment"]["versions"]["jax"] = "0.1"
    held["environment"] |= {"convolution": "other", "x64": True, "device": "another"}
    held["environment"]["flags"]["JAX_ENABLE_X64"] = "1"
    (run / "config.json").write_text(json.dumps(held))
    said = []
    result = train(run, said.append)
    assert said[0] == f"{run}: goes on from step 2 of 4"
    (line,) = said[1:]
    assert "its last bits may differ" in line
    for words in ("jax '0.1' there", "convolution 'other'", "x64 True there", "device", "JAX_ENABLE_X64 '1'"):
        assert words in line
    assert result.metrics == tiny_run.metrics
    now = read(run / "config.json")
    assert now["before"] == [held]
    assert now["environment"]["versions"] == {**held["environment"]["versions"], "jax": jax.__version__}


def test_a_finished_run_is_extended_as_if_it_had_been_longer(run, tmp_path):
    longer = changed(steps=6)
    said = []
    extended = train(run, said.append, config=longer)
    straight = train(tmp_path / "straight", config=longer)
    assert said == [f"{run}: goes on from step 4 of 6"]
    assert extended.metrics == straight.metrics
    jax.tree.map(np.testing.assert_array_equal, extended.variables, straight.variables)
    ours, theirs = (
        [{**line, "time": 0} for line in read_jsonl(each.out / "metrics.jsonl")]
        for each in (extended, straight)
    )
    assert ours == theirs
    assert [held["config"] for held in read(run / "config.json")["before"]] == [CONFIG.to_json()]
    assert read(run / "config.json")["config"] == longer.to_json()
    assert read(run / "result.json.before")["config"] == CONFIG.to_json()
    assert read(run / "result.json")["config"] == longer.to_json()
    assert train(run, config=longer).metrics == straight.metrics
    with pytest.raises(UserError, match=r"steps 6 there, 4 here.*a run does not get shorter"):
        train(run)


@pytest.mark.parametrize(
    ("there", "here", "refusal"),
    [
        ({"steps": 30}, {"steps": 60}, None),
        ({"steps": 60}, {"steps": 30}, r"steps 60 there, 30 here\): a run does not get shorter"),
        (
            {"steps": 30, "schedule": "cosine"},
            {"steps": 60, "schedule": "cosine"},
            "the schedule cosine depends on the number of steps",
        ),
        ({"steps": 30, "schedule": "piecewise"}, {"steps": 60, "schedule": "piecewise"}, None),
        (
            {"schedule": "piecewise", "boundaries": (32, 48)},
            {"schedule": "piecewise", "boundaries": (32,), "steps": 60},
            r"boundaries \[32, 48\] there, \[32\] here",
        ),
        ({}, {"steps": 60, "batch_size": 8}, "batch_size 16 there, 8 here"),
        ({}, {}, None),
    ],
)
def test_which_configs_a_run_goes_on_as(there, here, refusal):
    held, asked = ({"config": changed(**fields).to_json(), "data": "d"} for fields in (there, here))
    found = _refusal(held, asked)
    if refusal is None:
        assert found is None
    else:
        with pytest.raises(UserError, match=refusal):
            raise UserError(found)


def test_resume_needs_a_checkpoint(tmp_path):
    with pytest.raises(UserError, match=r"resume=2: .*new has no checkpoint; leave it out"):
        train(tmp_path / "new", resume=2)
    with pytest.raises(UserError, match=r"resume=2: .*has no checkpoint"):
        run_all({"a": CONFIG, "b": changed(seed=1)}, tmp_path, DATA, resume=2, workers=1)
    assert not list(tmp_path.iterdir())


def test_in_an_experiment_runs_that_have_not_begun_begin(run, monkeypatch):
    given = []

    def train_many(configs, outs, how, *, resume, **_):
        given.append(([out.name for out in outs], resume))
        for out in outs:
            out.mkdir(exist_ok=True)
            (out / "result.json").write_text('{"metrics": {}}')

    monkeypatch.setattr("experiments.runner.train_many", train_many)
    runs = {"run": CONFIG, "new": changed(model="plain8")}
    run_all(runs, run.parent, DATA, resume=2, workers=1)
    assert given == [(["run"], 2), (["new"], None)]


def test_an_experiment_that_failed_at_once_owns_nothing(tmp_path):
    out, settings = tmp_path / "made/out", {"validation": 99_999_999, "networks": ["a"]}

    def fail(writes):
        with experiment_dir(out, settings):
            assert read(out / "config.json")["experiment"] == settings
            for name in writes:
                (out / name).write_text("a result")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail(writes=[])
    assert not list(tmp_path.iterdir())
    with pytest.raises(RuntimeError):
        fail(writes=["cached.npz"])
    assert (out / "config.json").exists()

    with (
        pytest.raises(UserError, match="validation 99999999 there, 0 here"),
        experiment_dir(out, {"validation": 0}),
    ):
        pass
    with experiment_dir(out, {**settings, "networks": ["a", "b"]}, growing=["networks"]):
        pass
    said = []
    (out / "config.json").unlink()
    with experiment_dir(out, settings, say=said.append):
        pass
    assert said == [f"{out} has no config.json: what is in it is taken for this experiment's"]
