import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from cnnjax.errors import UserError
from cnnjax.models import build
from experiments.shattered_gradients.__main__ import main
from experiments.shattered_gradients.convolutional import by_cluster
from experiments.shattered_gradients.depth import theories
from experiments.shattered_gradients.looks_linear import configs, networks
from experiments.shattered_gradients.settings import PRESETS, Args
from tests.experiments.pages import study_of


def pretended_runs(runs, out, data):
    """In the place of training, which has tests of its own."""
    metrics = {"train_error": 0.5, "test_error": 0.75}
    for name in runs:
        (out / name).mkdir(parents=True, exist_ok=True)
        write_lines = (json.dumps({"step": step, **metrics}) for step in (1, 2))
        (out / name / "metrics.jsonl").write_text("\n".join(write_lines) + "\n")
    return dict.fromkeys(runs, metrics)


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    args = Args(preset="smoke", out=tmp_path_factory.mktemp("shattered"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("experiments.shattered_gradients.looks_linear.run_all", pretended_runs)
        main(args)
        yield args


@pytest.fixture
def results(smoke):
    return json.loads((smoke.out / "summary.json").read_text())["results"]


def test_the_rows(results):
    rows = [row for row in results if row["experiment"] == "one_dimensional"]
    nets = [("feedforward", "batch", None), ("residual", "batch", 1.0)]
    assert [(row["net"], row["norm"], row["beta"]) for row in rows] == nets
    assert all(len(row["autocorrelation"]) == 16 and row["autocorrelation"][0] == 1 for row in rows)
    assert {row["statistics"] for row in rows} == {"frozen"}
    rows = [row for row in results if row["experiment"] == "depth"]
    assert [(row["net"], row["norm"], row["beta"]) for row in rows] == nets
    for row in rows:
        assert {"measured", "paper", "corrected"} <= set(row["correlation"]) & set(row["variance"])
    (shattered, linear) = (row["correlation"] for row in results if row["experiment"] == "looks_linear")
    assert shattered < 0.6
    assert linear == pytest.approx(1, abs=1e-5)
    (row,) = (row for row in results if row["experiment"] == "convolutional")
    assert (row["net"], row["depth"]) == ("residual, BatchNorm, β = 1", 2)
    assert 1 < row["alignment"]["mean"] < 16
    assert 0 < row["mean_cosine"]["mean"] < row["normalised_rank"]["mean"] < 1
    rows = [row for row in results if row["experiment"] == "looks_linear_training"]
    plain = ["ReLU, He", "CReLU, He", "CReLU, looks-linear"]
    assert [row["net"] for row in rows] == [*plain, "residual, BatchNorm"]
    assert rows[0]["test_error"]["values"] == [0.75]


def test_one_layer_is_as_theory_has_it_even_in_a_narrow_net(results):
    """Within four standard errors of two nets of width 16, or so; exact agreement is the quick preset's."""
    for row in results:
        if row["experiment"] == "depth":
            assert row["correlation"]["measured"] == pytest.approx(row["correlation"]["corrected"], abs=0.06)


def test_the_recorded_result_is_what_theory_and_the_paper_say():
    """The numbers that the README shows: corrected theory holds at depth 50, where the paper's is far off."""
    folder = Path(__file__).parents[2] / "experiments/results/shattered_gradients"
    rows = json.loads((folder / "summary.json").read_text())["results"]

    def lag(number, **fields):
        (row,) = (
            row for row in rows if row["experiment"] == "one_dimensional" and fields.items() <= row.items()
        )
        return row["autocorrelation"][number]

    residual = {"net": "residual", "norm": "batch", "depth": 50}
    assert abs(lag(1, net="feedforward", norm="batch", depth=24)) < 0.1
    assert abs(lag(1, net="feedforward", norm="center", depth=24)) < 0.1
    assert lag(1, **residual, beta=0.1) > 0.85
    assert lag(1, net="feedforward", norm="batch", depth=50) < lag(1, **residual, beta=1.0)
    assert lag(1, **residual, beta=1.0) < lag(1, **residual, beta=0.1)
    assert lag(1, net="feedforward", norm="none", depth=50) > 0.6
    (brown,) = (row["autocorrelation"] for row in rows if row.get("noise") == "brown")
    assert 0.65 < brown[8] < 0.82
    for beta, width in ((1.0, 0.1), (0.5, 0.1), (0.1, 0.03)):
        (row,) = (
            row
            for row in rows
            if row["experiment"] == "depth" and {**residual, "beta": beta}.items() <= row.items()
        )
        measured = row["correlation"]["measured"]
        assert row["correlation"]["corrected"] == pytest.approx(measured, rel=width)
        if beta == 1.0:
            assert row["correlation"]["paper"] > 1.5 * measured


def test_the_recorded_derivatives_of_the_whole_batch():
    """Without statistics they are the same; with BatchNorm's they shatter at a smaller depth."""
    results = Path(__file__).parents[2] / "experiments/results"

    def first_lag(name):
        rows = json.loads((results / name / "summary.json").read_text())["results"]
        rows = [row for row in rows if row["experiment"] == "one_dimensional"]
        return {
            (row["net"], row["norm"], row["beta"], row["depth"]): row["autocorrelation"][1] for row in rows
        }

    own, whole = first_lag("shattered_gradients"), first_lag("shattered_gradients_batch")
    assert own.keys() == whole.keys()
    for (net, norm, beta, depth), value in own.items():
        if norm == "none":
            assert whole[net, norm, beta, depth] == pytest.approx(value, abs=1e-3)
    for depth in (2, 4, 10):
        assert whole["feedforward", "batch", None, depth] < own["feedforward", "batch", None, depth] - 0.05
    for depth in (4, 10, 24, 50):
        assert whole["residual", "batch", 1.0, depth] < own["residual", "batch", 1.0, depth] - 0.05


CORRELATIONS = {  # of an independent computation with 4 nets, at depths 1, 2, 4, 8, 16, 32, 50
    ("feedforward", None): (0.497, 0.258, 0.060),
    ("residual", 1.0): (0.747, 0.588, 0.458, 0.315, 0.200, 0.127, 0.088),
    ("residual", 0.5): (0.899, 0.813, 0.700, 0.555, 0.395, 0.263, 0.190),
    ("residual", 0.1): (0.995, 0.990, 0.980, 0.961, 0.923, 0.860, 0.799),
}
FIRST_LAG = {  # of another with 12 nets, at depths 2, 10, 24, 50
    ("feedforward", "none", None): (0.96, 0.94, 0.90, 0.82),
    ("feedforward", "center", None): (0.97, 0.75, 0.03, 0.06),
    ("feedforward", "batch", None): (0.95, 0.43, 0.00, -0.03),
    ("residual", "none", 1.0): (0.98, 0.96, 0.93, 0.90),
    ("residual", "batch", 1.0): (0.96, 0.86, 0.74, 0.66),
    ("residual", "batch", 0.1): (0.98, 0.96, 0.96, 0.93),
}


def test_the_recorded_result_is_that_of_a_second_program():
    folder = Path(__file__).parents[2] / "experiments/results/shattered_gradients"
    rows = json.loads((folder / "summary.json").read_text())["results"]

    def of(experiment):
        found = (row for row in rows if row["experiment"] == experiment)
        return {(row["net"], row["norm"], row["beta"], row["depth"]): row for row in found}

    for (net, beta), values in CORRELATIONS.items():
        for depth, value in zip((1, 2, 4, 8, 16, 32, 50), values, strict=False):
            found = of("depth")[net, "batch", beta, depth]["correlation"]["measured"]
            assert found == pytest.approx(value, rel=0.07), (net, beta, depth)
    for family, values in FIRST_LAG.items():
        for depth, value in zip((2, 10, 24, 50), values, strict=True):
            found = of("one_dimensional")[*family, depth]["autocorrelation"][1]
            assert found == pytest.approx(value, abs=0.08), (family, depth)


def test_the_recorded_result_on_images():
    """Shattering follows depth in convolutional nets too, and without it nets of 98 layers train."""
    folder = Path(__file__).parents[2] / "experiments/results/shattered_gradients_images"
    rows = json.loads((folder / "summary.json").read_text())["results"]
    three_nets_of_another_program = {
        "feedforward, BatchNorm": [0.140, 0.022, 0.001, 0.000, 0.000],
        "residual, BatchNorm, β = 1": [0.172, 0.112, 0.048, 0.016, 0.006],
        "residual, BatchNorm, β = 0.1": [0.397, 0.397, 0.397, 0.365, 0.317],
    }
    for name, expected in three_nets_of_another_program.items():
        measured = {
            row["depth"]: row["mean_cosine"]
            for row in rows
            if row["experiment"] == "convolutional" and row["net"] == name
        }
        assert list(measured) == [2, 4, 10, 24, 50]
        for one, value in zip(measured.values(), expected, strict=True):
            assert len(one["values"]) == 24
            rounding = 0.0005
            assert value == pytest.approx(one["mean"], abs=2 * one["std"] / 3**0.5 + rounding)
    correlations = [row["correlation"] for row in rows if row.get("weights") == "looks_linear"]
    assert correlations == pytest.approx([1, 1, 1, 1], abs=1e-5)
    errors = {
        (row["net"], row["depth"]): row["train_error"]["mean"]
        for row in rows
        if row["experiment"] == "looks_linear_training"
    }
    assert (
        errors["CReLU, looks-linear", 98] < 0.5 < 0.85 < min(errors["ReLU, He", 98], errors["CReLU, He", 98])
    )


def test_theories_agree_where_they_must():
    for family in PRESETS["quick"].families:
        said = theories(family, 1)
        assert said["paper"].correlation == pytest.approx(said["corrected"].correlation)


def test_a_second_start_computes_nothing_and_draws_the_same(smoke, monkeypatch):
    monkeypatch.setattr("experiments.runner.write_arrays", lambda *_: pytest.fail("computed again"))
    before = {name: (smoke.out / name).read_bytes() for name in ("summary.json", "depth_theory.svg")}
    main(smoke)
    assert before == {name: (smoke.out / name).read_bytes() for name in before}


def test_the_page_needs_nothing_else(smoke):
    study = study_of(smoke.out)
    assert len(study["figures"]) == 6
    assert "residual, BatchNorm, β = 1" in str(study)


def test_a_folder_of_another_experiment_is_refused(smoke):
    with pytest.raises(UserError, match="seed 0 there, 1 here"):
        main(dataclasses.replace(smoke, seed=1))


def test_derivatives_of_the_whole_batch(tmp_path, results):
    """The page says what was differentiated; with other statistics it is another experiment."""
    args = Args(preset="smoke", out=tmp_path / "batch", statistics="batch", parts=("one_dimensional",))
    main(args)
    (row, _) = (
        row
        for row in json.loads((args.out / "summary.json").read_text())["results"]
        if row["experiment"] == "one_dimensional"
    )
    frozen = next(row for row in results if row["experiment"] == "one_dimensional")
    assert row["statistics"] == "batch"
    assert row["autocorrelation"][1] != frozen["autocorrelation"][1]
    assert "statistics as functions of all points" in (args.out / "report.html").read_text()
    with pytest.raises(UserError, match="statistics"):
        main(dataclasses.replace(args, statistics="frozen"))


def test_quick_is_the_papers_protocol():
    quick = PRESETS["quick"]
    assert (quick.width, quick.points, quick.nets, quick.grid_depths) == (200, 256, 20, (2, 4, 10, 24, 50))
    assert len(quick.grid_families) == len(quick.families) == 6
    with pytest.raises(UserError, match="at least 2"):
        _ = Args(nets=1).chosen
    with pytest.raises(UserError, match="at least 1"):
        _ = Args(steps=0).chosen
    assert Args(seeds=2).chosen.training.seeds == 2
    assert Args(models=("vgg11",), steps=3).chosen.convolutional.models == ("vgg11",)


def test_samples_are_ordered_by_cluster(smoke):
    directions = np.array([[1.0, 0.0], [0.0, 1.0], [2.0, 0.1], [0.1, 3.0]])
    assert {tuple(sorted(pair)) for pair in np.split(by_cluster(directions, clusters=2), 2)} == {
        (0, 2),
        (1, 3),
    }
    with np.load(smoke.out / "convolutional" / "residual_batch_1_2.npz") as file:
        assert sorted(file["order"]) == list(range(16))


def test_what_is_trained_differs_in_the_initialisation():
    relu, crelu, linear, residual = configs(PRESETS["smoke"].training, flips=True).values()
    assert (linear.optimizer, linear.weight_decay, linear.model_options) == ("adam", 0, {"width": 8})
    assert crelu == dataclasses.replace(linear, model_options={"width": 8, "kernel_init": "he_fan_in"})
    assert relu.model_options == {**crelu.model_options, "activation": "relu"}
    options = {"width": 8, "stage_sizes": (1, 1, 1, 1)}
    assert residual == dataclasses.replace(linear, model="resnet20", model_options=options)


@pytest.mark.parametrize("depth", [10, 18, 22, 50, 98, 198])
def test_residual_nets_have_the_plain_nets_layers(depth):
    """A convolution, 4n more and a classifier, with the filters of ReLUs, as deep as the name says."""
    net = networks(depth)["residual, BatchNorm"]
    sizes = net["model_options"]["stage_sizes"]
    assert 2 * sum(sizes) + 2 == depth
    model = build(net["model"], width=8, **net["model_options"])
    assert [model.filters(stage) for stage in (1, 2, 3, 4)] == [8, 16, 32, 64]
    assert max(sizes) - min(sizes) <= 1


def test_six_layers_are_too_few_for_shortcuts():
    assert list(networks(6)) == ["ReLU, He", "CReLU, He", "CReLU, looks-linear"]


def test_arrays_are_kept(smoke):
    with np.load(smoke.out / "one_dimensional" / "feedforward_batch.npz") as file:
        assert file["2"].shape == (3, 32)
