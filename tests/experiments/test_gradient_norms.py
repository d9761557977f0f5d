import json
from pathlib import Path

import numpy as np
import pytest

from cnnjax.errors import UserError
from cnnjax.models import build
from experiments.gradient_norms.__main__ import main
from experiments.gradient_norms.initial import initial, theory_of
from experiments.gradient_norms.rows import growth, table
from experiments.gradient_norms.settings import FAMILIES, PRESETS, Args
from experiments.gradient_norms.training import configs
from tests.experiments.pages import cells_of, study_of

SIGMOID = "plain, sigmoid, no norm"


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    out = tmp_path_factory.mktemp("norms")
    args = Args(preset="smoke", families=(SIGMOID,), trained=("plain",), workers=1, out=out)
    main(args)
    return args


def test_the_rows(smoke):
    rows = json.loads((smoke.out / "summary.json").read_text())["results"]
    assert [(row["part"], row["model"], row["family"], row["step"]) for row in rows] == [
        ("init", "plain8", SIGMOID, 0),
        ("training", "plain8", "plain", 0),
        ("training", "plain8", "plain", 1),
    ]
    for row in rows:
        assert row["layers"][:2] == ["conv1", "stage1_block01/conv1"]
        assert len(row["weight_gradient_norm"]) == len(row["activation_gradient_norm"]) == 8
        weights = row["weight_gradient_norm"]
        assert row["first_to_last"] == pytest.approx(weights[0] / weights[-2])
        assert len(row["slope_by_stage"]) == 3
    assert rows[0]["slope"] < 0.5 < rows[1]["slope"]  # sigmoids let a quarter through, or less


def test_the_recorded_result_is_what_its_page_says():
    """Gradients explode at initialisation as mean-field theory says, and one step later they do not."""
    folder = Path(__file__).parents[2] / "experiments/results/gradient_norms"
    rows = json.loads((folder / "summary.json").read_text())["results"]

    def values(name, part, model, step=0):
        where = {"part": part, "model": model, "family": model.rstrip("0123456789"), "step": step}
        found = [row[name] for row in rows if where.items() <= row.items()]
        assert len(found) == 2
        return found

    assert all(1.15 < slope < 1.23 for slope in values("slope", "init", "plain56"))
    assert all(slope < 1.13 for slope in values("slope", "init", "resnet56"))
    assert all(ratio > 500 for ratio in values("first_to_last", "init", "plain56"))
    page = (folder.parents[2] / "docs/experiments/gradient_norms.md").read_text()
    page = " ".join(page.split())
    before, after = (values("first_to_last", "training", "plain56", step) for step in (0, 1))
    assert min(before) > 500 > 20 > max(after)
    assert "gets {:,.0f} and {:,.0f} times (two seeds)".format(*before) in page
    assert "one step later the ratio is {:.2f} and {:.2f}".format(*after) in page


def test_the_page_needs_nothing_else(smoke):
    study = study_of(smoke.out)
    assert len(study["figures"]) == 5
    assert SIGMOID in cells_of(study)


def test_gradients_below_float32_are_measured():
    """Six layers of sigmoids at 1/2, with weights that are 1e-4 times smaller."""

    def first(gain):
        model = build("plain8", width=2, norm="none", activation="sigmoid", kernel_gain=gain)
        found = initial(model, np.ones((2, 8, 8, 1), np.float32), np.zeros(2, int), 1)
        return found["activation_gradient_norm"][0, 0]

    assert 0 < first(1e-8) < np.finfo(np.float32).tiny
    assert first(1e-8) / first(1e-4) == pytest.approx(1e-24, rel=0.01)


def test_growth_is_the_factor_per_layer_on_the_way_back():
    assert growth([8.0, 4.0, 2.0, 1.0]) == pytest.approx(2)
    assert growth([0.0, 0.0, 0.25, 0.5, 1.0]) == pytest.approx(0.5)


def test_theory_is_anchored_at_the_last_convolution():
    values = np.array([[9.0, 7.0, 3.0, 1.0], [9.0, 7.0, 12.0, 1.0]])
    overlay = theory_of("plain", values)
    assert overlay is not None
    np.testing.assert_allclose(overlay[1], 6 * 1.2112 ** np.array([2, 1, 0]), rtol=1e-4)
    assert theory_of("resnet", values) is None


def test_training_is_at_the_papers_rate_from_the_first_step():
    config = configs(PRESETS["quick"], ("plain",), flips=True)["plain56_seed0"]
    assert (config.learning_rate, config.warmup_steps, config.schedule) == (0.1, 0, "constant")
    paper = configs(PRESETS["paper"], ("resnet",), flips=True)["resnet110_seed2"]
    assert (paper.schedule, paper.boundaries, paper.augment) == ("piecewise", (32_000, 48_000), "crop_flip")


def test_the_models_of_a_family():
    looks_linear = FAMILIES["looks-linear, no norm"]
    names = [looks_linear.model(depth) for depth in (8, 20, 56, 110)]
    assert names == ["looks_linear10", "looks_linear22", "looks_linear58", "looks_linear110"]


def test_a_line_of_the_table_is_the_geometric_mean_over_seeds():
    common = {"part": "training", "family": "plain", "depth": 8, "step": 1, "slope_by_stage": [1.0, 2.0, 4.0]}
    seeds = [{**common, "first_to_last": 4.0, "slope": 1.0}, {**common, "first_to_last": 9.0, "slope": 1.21}]
    ((_, rows),) = table(seeds).values()
    assert rows == [["plain", "8", "step 1", "6", "1.100", "1.000", "2.000", "4.000", ""]]


@pytest.mark.parametrize("fields", [{"families": ("vgg",)}, {"seeds": 0}, {"steps": -1}])
def test_impossible_requests(fields):
    with pytest.raises(UserError):
        _ = Args(**fields).chosen
