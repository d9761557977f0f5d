import json

import numpy as np
import pytest

from cnnjax.errors import UserError
from experiments.speedrun.__main__ import main
from experiments.speedrun.conclusions import answer
from experiments.speedrun.settings import FAST, WITHOUT, Args
from tests.experiments.pages import study_of


def test_an_answer_claims_what_an_interval_without_zero_supports():
    rows = [
        {"part": "a", "loss": 0.01, "interval": [0.002, 0.018]},
        {"part": "b", "loss": -0.01, "interval": [-0.02, -0.001]},
        {"part": "c", "loss": 0.01, "interval": [-0.001, 0.02]},
    ]
    words = answer(rows)
    assert "higher: a (+1.00 points)" in words
    assert "Lower: b (-1.00 points)" in words
    assert "No clear difference: c (+1.00 points)" in words
    assert "nothing" in answer([{**rows[0], "interval": None}])


def test_arms_differ_from_the_recipe_in_one_part():
    args = Args(preset="quick")
    arms = list(args.arms(flips=True))
    (whole,) = (arm for arm in arms if arm.title == FAST and arm.passes == args.chosen.without)
    config = args.config(whole, 3, 12_000, True, 28)
    assert (config.steps, config.seed, config.downsample) == (4 * 12_000 // 128, 3, 2)
    assert config.learning_rate == pytest.approx(1.5 / 8)
    expected = [
        {"freeze", "model_options"}, {"augment"}, {"label_smoothing"}, {"lookahead"}, {"groups"},
    ]  # fmt: skip
    for arm, fields in zip((arm for arm in arms if not arm.whole), expected, strict=True):
        own = vars(args.config(arm, 3, 12_000, True, 28))
        assert {name for name, value in vars(config).items() if own[name] != value} == fields
    assert [arm.title for arm in args.arms(flips=False) if not arm.whole] == [
        part for part in WITHOUT if part != "alternating flips"
    ]


def test_passes_must_be_whole_numbers():
    with pytest.raises(UserError, match="--passes 0 2"):
        Args(passes=(0, 2)).chosen  # noqa: B018
    assert Args(passes=(3, 6)).chosen.without == 3


@pytest.mark.slow
def test_smoke(tmp_path):
    args = Args(preset="smoke", workers=1, out=tmp_path)
    main(args)
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert len(summary["results"]) == 2 * (2 + len(WITHOUT) - 1 + 2)  # generated images are not mirrored
    whole = {row["seed"]: row for row in summary["results"] if (row["arm"], row["passes"]) == (FAST, 1)}
    for part in summary["without"]:
        rows = [row for row in summary["results"] if row["arm"] == f"without {part['part']}"]
        losses = [row["test_error"] - whole[row["seed"]]["test_error"] for row in rows]
        assert part["loss"] == pytest.approx(np.mean(losses), abs=1e-6)
    assert all(row["seconds"] > 0 for row in summary["results"])
    before = (tmp_path / "summary.json").read_bytes()
    main(args)  # nothing is trained again
    assert (tmp_path / "summary.json").read_bytes() == before
    study = study_of(tmp_path)
    assert len(study["figures"]) == 1
    assert "Answer." in study["text"]
