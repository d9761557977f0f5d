import json

import numpy as np
import pytest

from cnnjax.errors import UserError
from cnnjax.evaluation import disagreement
from experiments.ensembles.__main__ import main
from experiments.ensembles.conclusions import answer, conclude, error_of
from experiments.ensembles.members import choices
from experiments.ensembles.settings import PRESETS, Args
from experiments.runner import Findings
from tests.experiments.pages import cells_of, study_of


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    out = tmp_path_factory.mktemp("ensembles")
    args = Args(preset="smoke", models=("highway6",), seeds=2, steps=16, workers=1, out=out)
    main(args)
    return args


def test_the_rows(smoke):
    rows = json.loads((smoke.out / "summary.json").read_text())["results"]
    kinds = [(row["kind"], row["members"], row.get("seed"), len(row["test_errors"])) for row in rows]
    assert kinds == [
        ("seeds", 1, None, 2), ("seeds", 2, None, 1),
        ("checkpoints", 1, 0, 1), ("checkpoints", 2, 0, 1), ("paths", 1, 0, 2), ("paths", 2, 0, 1),
        ("checkpoints", 1, 1, 1), ("checkpoints", 2, 1, 1), ("paths", 1, 1, 2), ("paths", 2, 1, 1),
    ]  # fmt: skip
    for seed in range(2):  # one member is the net as training tested it
        result = json.loads((smoke.out / f"highway6_seed{seed}" / "result.json").read_text())
        tested = result["metrics"]["test_error"]
        assert rows[0]["test_errors"][seed] == pytest.approx(tested, abs=1e-6)
        assert rows[2 + 4 * seed]["test_errors"] == pytest.approx([tested], abs=1e-6)


def test_the_checkpoints_are_the_last_ones(smoke):
    with np.load(smoke.out / "probabilities" / "highway6_seed0.npz") as arrays:
        last, before = arrays["checkpoints"]
        np.testing.assert_allclose(last.sum(-1), 1, rtol=1e-5)
        assert 0 < abs(last - before).max() < 0.5  # two steps apart
        assert arrays["deleted"].tolist() == [1, 1]


def test_a_second_start_measures_nothing_and_writes_the_same(smoke, monkeypatch):
    monkeypatch.setattr(
        "experiments.ensembles.members.lesioned_outputs", lambda *_, **__: pytest.fail("measured again")
    )
    before = (smoke.out / "summary.json").read_bytes()
    main(smoke)
    assert (smoke.out / "summary.json").read_bytes() == before
    study = study_of(smoke.out)
    assert len(study["figures"]) == 1
    assert "highway6" in cells_of(study)


def one_hot(*classes):
    return np.eye(3)[np.array(classes)]


def test_three_that_are_wrong_at_different_places_are_right_together():
    labels = np.array([0, 1, 2, 0])
    members = np.stack([one_hot(1, 1, 2, 0), one_hot(0, 2, 2, 0), one_hot(0, 1, 0, 0)])
    assert [error_of(one[None], labels) for one in members] == [0.25] * 3
    assert error_of(members, labels) == 0
    assert disagreement(members) == 0.5
    sure = np.array([[[0.9, 0.1, 0]], [[0.4, 0.6, 0]], [[0.4, 0.6, 0]]])
    assert error_of(sure, np.array([0])) == 0  # probabilities are averaged, and not votes


def test_the_answer_is_computed(tmp_path):
    labels = np.array([0, 1, 2, 0])
    whole = [one_hot(1, 1, 2, 0), one_hot(0, 2, 2, 0), one_hot(0, 1, 0, 0)]
    seeds = [
        {
            "checkpoints": np.stack([one, one]),
            "paths": np.stack([one_hot(1, 2, 2, 0)] * 2),
            "deleted": np.array([1, 1]),
        }
        for one in whole
    ]
    found = Findings()
    conclude({"net": seeds}, labels, found, tmp_path)
    assert (
        "net: one net has 25.0 % test error, 3 together 0.0 %, the last 2 checkpoints of one run 25.0 %; "
        "without one block, with half of the paths, 50.0 %, and the mean of several such nets 50.0 %; 1 of "
        "the 3 nets 25.0 %."
    ) in answer(found)
    apart = {row["kind"]: row["disagreement"] for row in found.others["disagreement"]}
    assert apart == {"seeds": 0.5, "checkpoints": 0, "paths": 0}


def test_choices():
    opened = choices(5, PRESETS["quick"], np.random.default_rng(0))
    assert (opened == 0).sum(1).tolist() == [1] * 4 + [2] * 4 + [3] * 4 + [4] * 4
    assert choices(1, PRESETS["smoke"], np.random.default_rng(0)).shape == (0, 1)


def test_quick_keeps_every_eighth():
    args = Args()
    found = args.configs(flips=True, side=28)
    assert len(found) == 10
    assert {config.checkpoint_every for config in found.values()} == {args.keep.every} == {25}


@pytest.mark.parametrize("fields", [{"seeds": 0}, {"steps": 0}, {"models": ("a.py:Net", "b.py:Net")}])
def test_impossible_requests(fields):
    with pytest.raises(UserError):
        _ = Args(**fields).chosen
