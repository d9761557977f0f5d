"""Every file that a run leaves, damaged in every way: nothing is lost, and a line says which file it was."""

import dataclasses
import json
import re
from pathlib import Path

import jax
import numpy as np
import pytest

from cnnjax.config import KEEP
from cnnjax.errors import UserError
from cnnjax.files import read_jsonl
from cnnjax.training.record import finished
from experiments.runner import cached_npz, run_all
from tests.training.tiny import CONFIG, DATA, IDENTITY, contents, train


def again(run, **options):
    said = []
    return train(run, said.append, **options), said


DIGITS = re.compile(rb'(train_loss|test_loss|learning_rate)": \d\.|\x93NUMPY.{124}', re.DOTALL)


def flip(path, which=0):
    """A bit of the first digit of a loss or rate, so that JSON still reads as such, or of the first array."""
    content = bytearray(path.read_bytes())
    content[list(DIGITS.finditer(content))[which].end()] ^= 1
    path.write_bytes(content)


def flip_late(path):
    flip(path, which=-1)


def cut_short(path):
    path.write_bytes(path.read_bytes()[:-20])


def empty(path):
    path.write_bytes(b"")


def delete(path):
    path.unlink()


def spoil(path):
    lines = path.read_bytes().split(b"\n")
    path.write_bytes(b"\n".join([*lines[:2], b"\0" * 40, b"garbage\xff", *lines[2:]]))


DAMAGES = [flip, flip_late, cut_short, empty, delete, spoil]
FILES = ["config.json", "metrics.jsonl", "result.json", "probes/step_3.npz"]


def test_a_whole_run_is_left_as_it_is_and_nothing_is_compiled(run, tiny_run, compiled):
    before = contents(run)
    result, said = again(run)
    assert said == [f"{run}: is finished"]
    assert result.metrics == tiny_run.metrics
    jax.tree.map(np.testing.assert_array_equal, result.variables, tiny_run.variables)
    assert contents(run) == before
    assert compiled == []


def test_a_run_of_a_version_whose_configs_had_fewer_fields_is_whole(run, tiny_run, compiled):
    for name in ("config.json", "result.json"):
        held = json.loads((run / name).read_text())
        del held["config"]["ema"], held["config"]["validation"]
        (run / name).write_text(json.dumps(held))
    before = contents(run)
    assert finished(run, IDENTITY) == tiny_run.metrics
    assert again(run)[1] == [f"{run}: is finished"]
    assert contents(run) == before
    assert compiled == []


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", FILES)
def test_a_damaged_file_of_a_finished_run(run, tiny_run, name, damage, compiled):
    damage(run / name)
    damaged = contents(run)
    result, said = again(run)
    what = "steps 3" if damage is delete and name.startswith("probes") else str(run / name)
    assert len([line for line in said if what in line]) == 1
    assert len(said) == 2
    assert all("\n" not in line for line in said)
    assert result.metrics == tiny_run.metrics
    assert json.loads((run / "result.json").read_text())["metrics"] == tiny_run.metrics
    assert json.loads((run / "config.json").read_text())["config"] == CONFIG.to_json()
    assert compiled == []

    left = b"\n".join(contents(run).values())
    pieces = damaged.values() if name != "metrics.jsonl" else b"\n".join(damaged.values()).split(b"\n")
    assert all(piece in left for piece in pieces)  # nothing is deleted
    good = (tiny_run.out / "metrics.jsonl").read_bytes().splitlines()
    before = damaged.get(Path("metrics.jsonl"), b"").splitlines()
    after = contents(run).get(Path("metrics.jsonl"), b"").splitlines()
    assert [line for line in after if line in good] == [line for line in before if line in good]
    if name in ("config.json", "result.json"):
        assert again(run)[1] == [f"{run}: is finished"]


def test_good_lines_stay_in_order_and_bad_ones_add_up(run, tiny_run):
    """Twice damaged: the second time overwrites nothing of the first."""
    path, good = run / "metrics.jsonl", (tiny_run.out / "metrics.jsonl").read_bytes()
    for bad in (b'{"step": 1, "train_lo', b"\0" * 40):
        lines = path.read_bytes().splitlines()
        path.write_bytes(b"\n".join([*lines[:3], bad, *lines[3:]]) + b"\n")
        assert finished(run, IDENTITY) is None
        _, said = again(run)
        assert said[1] == f"{path}: 1 damaged line moved to {path}.damaged"
        assert path.read_bytes() == good
    assert (run / "metrics.jsonl.damaged").read_bytes() == b'{"step": 1, "train_lo\n' + b"\0" * 40 + b"\n"
    assert finished(run, IDENTITY) == tiny_run.metrics


def test_a_finished_run_whose_newest_checkpoint_is_damaged(run, tiny_run):
    """It goes on from the one before, and its lines of the steps taken again are kept too."""
    (run / "checkpoints/4/sha256.json").unlink()
    before = (run / "metrics.jsonl").read_bytes().splitlines()
    result, said = again(run)
    assert result.metrics == tiny_run.metrics
    assert said[0].startswith("checkpoint 4")
    assert said[1:] == [
        f"{run}: goes on from step 2 of 4",
        f"{run / 'metrics.jsonl'}: its lines after step 2 are kept in {run / 'metrics.jsonl.before'}",
    ]
    assert (run / "checkpoints.damaged/4").is_dir()
    assert (run / "metrics.jsonl.before").read_bytes().splitlines() == before[3:]
    assert [line["step"] for line in read_jsonl(run / "metrics.jsonl")] == [1, 2, 2, 3, 4, 4]


def test_without_config_json_and_checkpoints_that_say_it_another_config_is_refused(run):
    (run / "config.json").unlink()
    other = dataclasses.replace(CONFIG, batch_size=8)
    with pytest.raises(UserError, match="batch_size 16 there, 8 here"):
        train(run, config=other)
    (run / "result.json").rename(run / "elsewhere.json")
    with pytest.raises(UserError, match="batch_size 16 there, 8 here"):  # checkpoints say it
        train(run, config=other)
    (run / "elsewhere.json").rename(run / "result.json")
    for note in run.glob("checkpoints/*/run.json"):
        note.unlink()
    with pytest.raises(UserError, match="batch_size 16 there, 8 here"):  # result.json says it too
        train(run, config=other)


def test_an_experiment_repairs_its_runs(run):
    """`run_all` takes no number from files that disagree."""
    experiment = run.parent
    flip_late(run / "result.json")
    metrics = run_all({"run": CONFIG}, experiment, DATA, workers=1, keep=KEEP)
    assert metrics["run"] == json.loads((run / "result.json").read_text())["metrics"]
    assert (run / "result.json.damaged").exists()
    assert finished(run, IDENTITY) == metrics["run"]
    assert finished(run, {**IDENTITY, "data": "another"}) is None


@pytest.mark.parametrize("damage", [flip, cut_short, empty, spoil])
def test_cached_arrays_that_are_damaged_are_computed_again(tmp_path, damage, capsys):
    path = tmp_path / "cached.npz"
    arrays = {"values": np.arange(1000.0)}
    cached_npz(path, lambda: arrays)
    cached_npz(path, lambda: pytest.fail("computed again"))
    damage(path)
    damaged = path.read_bytes()
    np.testing.assert_array_equal(cached_npz(path, lambda: arrays)["values"], arrays["values"])
    assert f"{path} is damaged" in capsys.readouterr().out
    assert (tmp_path / "cached.npz.damaged").read_bytes() == damaged
