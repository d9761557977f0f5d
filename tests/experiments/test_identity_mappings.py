import json
from pathlib import Path

import pytest

from cnnjax.counting import summary
from cnnjax.errors import UserError
from experiments.identity_mappings.__main__ import main
from experiments.identity_mappings.conclusions import answer
from experiments.identity_mappings.settings import Args, variants
from experiments.identity_mappings.variants import FAIL, ORDERS, ORIGINAL, shortcuts
from tests.experiments.pages import study_of


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    out = tmp_path_factory.mktemp("identity_mappings")
    args = Args(preset="smoke", models=("resnet8", "highway6"), steps=2, workers=1, out=out)
    main(args)
    return args


def test_the_rows(smoke):
    summary = json.loads((smoke.out / "summary.json").read_text())
    rows = summary["results"]
    assert [(row["variant"], row["seed"]) for row in rows] == [("resnet8", 0), ("highway6", 0)]
    assert [row["trained_forward_shortcut"] for row in rows[:1]] == [1.0]
    assert not any("trained" in name for name in rows[1])  # it has no shortcuts
    assert [row["state"] for row in summary["carried"]] == ["initial", "trained"]
    for row in rows:
        result = json.loads((smoke.out / f"{row['variant']}_seed0" / "result.json").read_text())
        assert row["test_error"] == pytest.approx(result["metrics"]["test_error"], abs=1e-6)


def test_a_second_start_measures_nothing_and_writes_the_same(smoke, monkeypatch):
    again = lambda *_, **__: pytest.fail("measured again")  # noqa: E731
    monkeypatch.setattr("experiments.identity_mappings.measurement.carried", again)
    before = (smoke.out / "summary.json").read_bytes()
    main(smoke)
    assert (smoke.out / "summary.json").read_bytes() == before
    assert len(study_of(smoke.out)["figures"]) == 3


def test_the_papers_tables():
    """Table 1 has 8 printed rows with an error or a failure besides "fail, b = 0 to -5"; table 2 has 10."""
    chosen = Args(preset="paper").chosen
    known = variants(chosen)
    assert len(chosen.nets) == len(known) == 1 + 3 + 2 * 8 + 2 + 4 + 5
    published = {name: variant.published.get(110) for name, (_, variant) in known.items()}
    assert published["exclusive_gating_-6"] == 8.70
    assert [published[f"exclusive_gating_{b}"] for b in range(0, -6, -1)] == [FAIL] * 6
    assert (published["shortcut_only_gating_0"], published["shortcut_only_gating_-6"]) == (12.86, 6.91)
    assert published["shortcut_only_gating_-3"] is None
    orders = [(one.published[110], one.published[164]) for one in (ORIGINAL, *ORDERS)]
    assert orders == [(6.61, 5.93), (8.17, 6.50), (7.84, 6.14), (6.71, 5.91), (6.37, 5.46)]


def test_the_papers_networks_have_its_parameters_and_warm_up():
    found = Args(preset="paper", seeds=1).configs(flips=True, side=32)
    counts = {
        "original_seed0": 1_727_962,
        "full_preactivation_seed0": 1_727_962,
        "exclusive_gating_-6_seed0": 1_824_186,
        "convolution_seed0": 1_826_202,
        "full_preactivation_164_seed0": 1_703_258,
        "original_164_seed0": 1_704_154,
    }
    for name, parameters in counts.items():
        config = found[name]
        assert summary(config.model, **config.model_options).parameters == parameters
    assert {config.warmup for config in found.values()} == {"tenth"}


@pytest.mark.slow
def test_the_smoke_preset_has_a_row_for_every_variant(tmp_path):
    args = Args(preset="smoke", steps=2, workers=1, out=tmp_path)
    main(args)
    rows = json.loads((tmp_path / "summary.json").read_text())["results"]
    assert [row["variant"] for row in rows] == list(variants(args.chosen))
    by_name = {row["variant"]: row for row in rows}
    for state in ("initial", "trained"):
        assert by_name["scaling_0.5_1"][f"{state}_forward_shortcut"] == 0.125
        assert by_name["scaling_0_1"][f"{state}_backward_shortcut"] == 0
        assert by_name["convolution"][f"{state}_forward_closed_form"] is None
        assert by_name["exclusive_gating_-6"][f"{state}_forward_closed_form"] == pytest.approx(0.99, abs=0.02)
    assert "scaling_0.5_1: trained, the shortcuts alone carry" in (tmp_path / "report.html").read_text()


def test_quick_differs_in_the_variant_alone():
    found = Args().configs(flips=True, side=28)
    assert len(found) == 3 * (len(shortcuts((0, -6))) + 4)
    alike = {json.dumps({**config.to_json(), "model": "", "model_options": ""}) for config in found.values()}
    assert len(alike) == 3  # seeds
    assert found["dropout_seed0"].model_options == {"width": 8, "shortcut": "dropout"}


def test_the_answer_is_computed():
    def rows(name, errors, published):
        return [
            {"variant": name, "seed": seed, "test_error": error, "published": {"resnet110": published}}
            for seed, error in enumerate(errors)
        ]

    results = [
        *rows("original", (0.2, 0.21), 6.61),
        *rows("bad", (0.4, 0.5), "fail"),
        *rows("same", (0.19, 0.4), 6.9),
    ]
    results += [{"variant": "diverged", "seed": 0, "diverged_at": 3, "published": {"resnet110": "fail"}}]
    said = answer(results)
    assert "worse: bad, diverged. With every seed better: none." in said
    assert "20.5 ± 0.7 %" in said
    assert "over 4 networks, failures as equal last" in said
    one_seed = answer([row for row in results if row["seed"] == 0])
    assert "no spread" in one_seed
    assert "worse" not in one_seed
    assert "nothing to compare" in answer(results[2:-1])


@pytest.mark.parametrize(
    "fields", [{"seeds": 0}, {"depth": 21}, {"images": 0}, {"gate_biases": (0.0, 0.0)}, {"depth": 2}]
)
def test_impossible_requests(fields):
    with pytest.raises(UserError):
        _ = Args(**fields).chosen


def test_the_recorded_result_is_what_the_docs_say():
    """The bare identity is ahead of every other shortcut, and scales are carried as their product."""
    root = Path(__file__).parents[2]
    rows = json.loads((root / "experiments/results/identity_mappings/summary.json").read_text())["results"]
    page = (root / "docs/experiments/identity_mappings.md").read_text()
    names = dict.fromkeys(row["variant"] for row in rows)
    errors = {name: [row.get("test_error", FAIL) for row in rows if row["variant"] == name] for name in names}
    original = max(errors["original"])
    behind = [variant.name for variant in shortcuts((0, -6))[1:] if min(errors[variant.name]) > original]
    assert behind == [v.name for v in shortcuts((0, -6))[1:] if v.name != "shortcut_only_gating_-6"]
    assert all(row["seed"] == 0 for row in rows) == ("one seed" in page)
    for own in errors.values():
        assert FAIL in own or f"{100 * sum(own) / len(own):.1f}" in page
    for row in rows:
        if row["variant"].startswith("scaling_0.5"):
            for way in ("forward", "backward"):
                assert row[f"trained_{way}_shortcut"] == pytest.approx(0.5**27, rel=1e-3)
