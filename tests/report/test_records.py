"""What a report reads of runs on disk."""

import json

import numpy as np
import pytest

from cnnjax.errors import UserError
from cnnjax.report import records
from cnnjax.report.contents import common_folder, families_of, page_of, report_of, write_findings
from cnnjax.report.page import Study
from cnnjax.report.series import COSINES, curves, layers, samples
from tests.report.folders import append_steps, finish, write_layers, write_run, write_samples


@pytest.fixture
def runs(tmp_path):
    for model in ("plain8", "resnet8"):
        for seed in (1, 0):
            write_run(tmp_path / f"{model}_seed{seed}", model, seed)
    return tmp_path


def test_families_differ_in_more_than_their_seeds(runs):
    write_run(runs / "fast", "resnet8", learning_rate=1.0)
    families = families_of(records.find_records([runs]))
    labels = {"plain8", "resnet8, learning_rate 1.0", "resnet8, learning_rate 0.1"}
    assert {label for label, _ in families} == labels
    by_label = dict(families)
    assert [run.config["seed"] for run in by_label["plain8"]] == [0, 1]
    assert [run.folder.name for run in by_label["resnet8, learning_rate 1.0"]] == ["fast"]


def test_a_run_named_twice_counts_once(runs):
    folder = runs / "plain8_seed0"
    assert len(records.find_records([runs, folder, folder])) == 4


def test_folders_without_runs(tmp_path):
    with pytest.raises(UserError, match="there is no run in"):
        report_of([tmp_path])
    with pytest.raises(UserError, match="there is no folder"):
        report_of([tmp_path / "none"])
    assert page_of([tmp_path]).title == f"No runs yet in {tmp_path.name}"


def test_curves_are_means_of_blocks_on_shared_steps(runs, monkeypatch):
    monkeypatch.setattr("cnnjax.report.series.POINTS", 20)
    families = families_of(records.find_records([runs]))
    found = curves([members for _, members in families])
    assert [one["name"] for one in found["quantities"]] == ["loss", "error", "learning_rate"]
    assert found["quantities"][0]["parts"] == ["train", "test"]
    run = families[0][1][0]
    grid, values = found["points"][0]["train/loss"]
    losses = [line["train_loss"] for line in run.lines if "train_loss" in line]
    assert found["steps"][grid] == [1.5 + 2 * index for index in range(20)]
    np.testing.assert_allclose(values, np.reshape(losses, (20, 2)).mean(1), rtol=1e-4)
    assert len({points["train/loss"][0] for points in found["points"]}) == 1  # the steps are stored once
    assert found["steps"][found["points"][0]["test/loss"][0]] == [10, 20, 30, 40]


def test_a_file_that_grows_is_read_on_and_one_that_is_replaced_anew(tmp_path):
    folder = write_run(tmp_path / "run", done=20)
    path = folder / "metrics.jsonl"

    def steps():
        (run,) = records.find_records([folder])
        return [line["step"] for line in run.lines if "train_loss" in line], run.state

    assert steps() == (list(range(1, 21)), "step 20 of 40")
    with open(path, "a") as file:
        file.write('{"step": 21, "train_lo')  # killed while it wrote
    assert steps()[0] == list(range(1, 21))
    whole = path.read_text().splitlines(keepends=True)[:-1]
    path.with_suffix(".new").write_text("".join(whole[:16]))  # resumed: the later lines made room
    path.with_suffix(".new").rename(path)
    assert steps()[0] == list(range(1, 16))
    append_steps(folder, 16, 40)
    append_steps(folder, 39, 40)  # again
    finish(folder)
    assert steps() == (list(range(1, 41)), "finished")


def test_anything_new_is_a_change(tmp_path):
    folder = write_run(tmp_path / "run", done=20)
    seen = [records.changes_of([tmp_path])]
    assert seen[0] == records.changes_of([tmp_path])
    for act in (
        lambda: append_steps(folder, 21, 40),
        lambda: write_layers(folder),
        lambda: finish(folder),
        lambda: write_run(tmp_path / "later", seed=1),
    ):
        act()
        seen.append(records.changes_of([tmp_path]))
    assert len(set(seen)) == 5


def test_layers_and_samples(tmp_path):
    folder = write_run(tmp_path / "run")
    assert layers({"net": records.find_records([folder])[0]}) == {}
    write_layers(folder, depth=8)
    write_samples(folder, depth=4, samples=12)
    (folder / "probes" / "step_7.npz").write_bytes(b"not whole")
    (run,) = records.find_records([folder])
    found = layers({"net": run})
    (one,) = found["runs"]
    assert one["steps"] == [0, 1, 2, 5, 10]
    assert one["values"]["weight_gradient_norm"][0][0] == pytest.approx(1.2**7, rel=1e-4)
    assert {each["name"]: each["of"] for each in found["statistics"]}["branch_rms"] == "blocks"
    (one,) = samples({"net": run})["runs"]
    assert one["layers"][-1] == "all parameters"
    matrix = np.reshape(one["cosines"][0][0], (12, 12))
    assert (matrix == matrix.T).all()
    assert (np.diagonal(matrix) == 100).all()


def test_of_many_matrices_some_are_left_out_and_the_page_says_so(tmp_path, monkeypatch):
    folder = write_run(tmp_path / "run")
    write_samples(folder, depth=9, samples=10, steps=(0, 1))
    assert COSINES > 2000
    monkeypatch.setattr("cnnjax.report.series.COSINES", 600)
    found = samples({"net": records.find_records([folder])[0]})
    assert found["runs"][0]["layers"] == ["conv0", "conv4", "all parameters"]
    assert found["note"] == "3 of 10 layers are shown."


def test_settings_are_shared_or_differ(runs):
    page = report_of([runs])
    assert page.configurations.shared["batch_size"] == "128"
    header, rows = page.configurations.differing
    assert list(header) == ["run", "model", "seed"]
    assert rows[0] == ["plain8_seed0", "plain8", "0"]
    assert page.environments.shared["jax"] == "0.10.2"
    assert page.environments.differing == ((), ())
    assert page.commands == ["cnnjax train --model plain8", "cnnjax train --model resnet8"]


def test_an_experiment_is_shown_with_its_findings(runs):
    (runs / "config.json").write_text(json.dumps({"experiment": {"preset": "smoke"}, "environment": {}}))
    (runs / "errors.json").write_text(json.dumps({"data": [], "layout": {}}))
    study = Study("Why?", "Because.", tables={"errors": (["net"], [["plain8"]])})
    write_findings(runs, study, {"A figure.": runs / "errors.json"})
    page = report_of([runs])
    assert page.title == "Why?"
    assert page.studies[0].figures == {"A figure.": {"data": [], "layout": {}}}
    assert len(page.overview[1]) == 4


def test_a_diverged_run_says_where(tmp_path):
    folder = write_run(tmp_path / "run", done=7)
    (folder / "diverged.json").write_text(json.dumps({"diverged_at": 7}))
    assert report_of([tmp_path]).overview[1][0][3] == "diverged at step 7"


def test_common_folder(tmp_path):
    assert common_folder([tmp_path / "a"]) == tmp_path / "a"
    assert common_folder([tmp_path / "a" / "b", tmp_path / "a" / "c"]) == tmp_path / "a"
