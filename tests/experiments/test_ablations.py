import json

import numpy as np
import pytest

from cnnjax.config import Config
from cnnjax.counting import summary
from cnnjax.data import Dataset
from cnnjax.errors import UserError
from experiments.ablations.__main__ import main
from experiments.ablations.conclusions import answer, conclude
from experiments.ablations.settings import PAPER, Args
from experiments.ablations.studies import STUDIES
from experiments.ablations.study import Arm, Study
from experiments.runner import Findings
from tests.experiments.pages import study_of

QUICK = {name: Args().study(name, (False, 28)) for name in STUDIES}


def changed(base: Config, own: Config) -> set[str]:
    """Names of the fields that differ, those of the network with a dot."""
    fields = {name for name, value in vars(own).items() if vars(base)[name] != value}
    options = {
        f".{name}"
        for name in {*base.model_options, *own.model_options}
        if base.model_options.get(name) != own.model_options.get(name)
    }
    return fields - {"model_options"} | options


@pytest.mark.parametrize("name", STUDIES)
def test_each_arm_differs_from_the_base_in_the_named_fields_alone(name):
    study = QUICK[name]
    for arm in study.arms:
        options = arm.changes.get("model_options", {})
        named = {*arm.changes} - {"model_options"} | {f".{option}" for option in options}
        found = changed(study.config, study.configs[arm.title])
        assert found
        assert found <= named
    assert len({study.run(title, 0) for title in study.configs}) == len(study.arms) + 1


def test_alexnets_arms():
    study = QUICK["alexnet"]
    fields = [changed(study.config, arm.config(study.config)) for arm in study.arms]
    towers = [{".groups", ".width", ".tail_width"}, {".groups"}]
    assert fields == [
        {".lrn"}, {".pool_size"}, {".dropout"}, {"colour"}, *towers, *[{".left_out"}] * 3,
    ]  # fmt: skip
    published = {arm.title: arm.published.get("test_error") for arm in study.arms}
    assert published["without response normalisation"] == 1.4
    assert published["pooling without overlap"] == 0.4
    assert published["one tower, half the kernels"] == 1.7
    assert published["without dropout"] is None  # the paper prints no number


def test_batch_sizes_have_the_budgets_and_rates_that_they_say():
    study = QUICK["batch_size"]
    base = study.config
    for title, config in list(study.configs.items())[1:]:
        size, budget, rate = title.split(", ")
        ratio = config.batch_size / base.batch_size
        assert str(config.batch_size) == size
        if budget == "equal epochs":
            assert config.steps * config.batch_size == base.steps * base.batch_size
            assert config.warmup_steps * config.batch_size == pytest.approx(
                base.warmup_steps * base.batch_size, rel=0.1
            )
        else:
            assert (config.steps, config.warmup_steps) == (base.steps, base.warmup_steps)
        expected = {"linear rate": ratio, "sqrt rate": ratio**0.5, "same rate": 1}[rate]
        assert config.learning_rate == pytest.approx(base.learning_rate * expected)
    assert len(study.arms) == 2 * 2 * 3


def test_resnexts_arms_cost_what_their_base_costs():
    study = QUICK["resnext"]
    costs = [summary(c.model, (14, 14, 1), **c.model_options) for c in study.configs.values()]
    assert [round(100 * one.macs / costs[0].macs) for one in costs] == [100, 101, 102]
    assert [round(100 * one.parameters / costs[0].parameters) for one in costs] == [100, 99, 98]


@pytest.mark.parametrize("name", STUDIES)
def test_the_papers_bases_are_the_papers_recipes(name):
    args = Args(preset="paper", studies=(name,))
    study = args.study(name, None)
    assert study.config.data == args.chosen.data == ("cifar10" if name == "batch_size" else "imagenet2012")
    recipes = {"alexnet": 0.01, "vgg": 0.01, "inception_v3": 0.045, "resnet_cifar": 0.1}
    assert study.config.learning_rate == recipes.get(PAPER[name]["name"], 0.1)
    if name == "resnext":
        counts = [summary(c.model, **c.model_options).parameters for c in study.configs.values()]
        assert counts == [25_557_032, 25_425_000, 25_292_968, 25_603_016, 25_028_904]
        assert [arm.published["test_error"] for arm in study.arms] == [-0.9, -1.3, -1.6, -1.7]
    if name == "vgg_5x5":
        assert study.configs["one 5x5"].model_options["stages"] == [[5]] * 5  # as JSON


def test_a_shorter_run_of_a_paper_has_its_drops_at_the_same_parts():
    config = Args(preset="paper", studies=("batch_size",), steps=6_400).study("batch_size", (True, 32)).config
    assert (config.steps, config.boundaries) == (6_400, (3_200, 4_800))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"studies": ("alexnot",)}, "--studies alexnot: must be of alexnet, vgg"),
        ({"studies": ("vgg", "vgg")}, "must be different ones"),
        ({"seeds": 0}, "--seeds 0"),
        ({"preset": "paper", "studies": ("vgg", "batch_size")}, "batch_size is of cifar10"),
    ],
)
def test_impossible_requests(fields, message):
    with pytest.raises(UserError, match=message):
        _ = Args(**fields).chosen
    with pytest.raises(UserError, match="photographs are for --preset paper"):
        Args(data="somewhere/photos").study("vgg", None)


def test_the_rows_and_the_words(tmp_path):
    """One arm is clearly worse, one within the noise, one diverges: then it has no difference."""
    base = Config(model="resnet8", model_options={"width": 2}, downsample=2)
    arms = (
        Arm("worse", {"label_smoothing": 0.1}, {"test_error": 2.0}),
        Arm("same", {"label_smoothing": 0.2}),
        Arm("diverging", {"learning_rate": 9.0}),
    )
    study = Study("study", "a paper", "base", base, arms)
    errors = {"base": (0.1, 0.2, 0.3), "worse": (0.15, 0.251, 0.349), "same": (0.2, 0.1, 0.3)}
    ends = {
        study.run(title, seed): {"test_error": error}
        for title, own in errors.items()
        for seed, error in enumerate(own)
    }
    ends |= {study.run("diverging", seed): {"diverged_at": 3} for seed in range(3)}
    images, labels = np.zeros((20, 16, 16, 1), np.uint8), np.arange(20, dtype=np.int32) % 10
    data = Dataset("made up", images, labels, images, labels, 10, "here")
    found = Findings()
    conclude([study], 3, ends, data, found, tmp_path)
    rows = found.others["differences"]
    assert [row["arm"] for row in rows] == ["worse", "same"]
    assert rows[0]["difference"] == pytest.approx(0.05)
    assert rows[0]["published"] == 0.02
    counted = summary("resnet8", (8, 8, 1), width=2)
    assert {(row["parameters"], row["macs"]) for row in found.results} == {(counted.parameters, counted.macs)}
    (table,) = found.tables.values()
    assert [row[3] for row in table[1]] == ["20.0 ± 10.0", "25.0 ± 10.0", "20.0 ± 10.0", "diverges"]
    assert "higher: worse (+5.0 points); no clear difference: same" in answer(rows)
    assert "One seed" in answer([{**rows[0], "interval": None}])
    assert (tmp_path / "ablations.png").exists()


@pytest.mark.slow
def test_smoke(tmp_path):
    args = Args(preset="smoke", workers=1, out=tmp_path)
    main(args)
    summary = json.loads((tmp_path / "summary.json").read_text())
    errors = {(row["study"], row["arm"], row["seed"]): row["test_error"] for row in summary["results"]}
    assert len(errors) == len(summary["results"]) == 2 * 2 * 2
    for row in summary["differences"]:
        if row["measure"] == "test_error":
            base = {"vgg": "three 3x3", "smoothing": "labels smoothed by 0.1"}[row["study"]]
            pairs = [
                errors[row["study"], row["arm"], seed] - errors[row["study"], base, seed] for seed in (0, 1)
            ]
            assert row["difference"] == pytest.approx(np.mean(pairs), abs=1e-6)
    calibrated = {row["study"] for row in summary["differences"] if row["measure"] == "calibration_error"}
    assert calibrated == {"smoothing"}
    before = (tmp_path / "summary.json").read_bytes()
    main(args)  # nothing is trained again
    assert (tmp_path / "summary.json").read_bytes() == before
    assert len(study_of(tmp_path)["figures"]) == 1
