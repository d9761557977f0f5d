import json
from pathlib import Path

import numpy as np
import pytest

from cnnjax.errors import UserError
from cnnjax.initial import read_initial
from cnnjax.runs import open_run
from experiments.identity_solution.__main__ import main
from experiments.identity_solution.settings import STARTS, Args, plan, weights
from tests.experiments.pages import study_of

DIVERGING = 1e30


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    out = tmp_path_factory.mktemp("identity_solution")
    args = Args(preset="smoke", steps=2, further=2, rates=(0.1, DIVERGING), workers=1, out=out)
    main(args)
    return args


def rows(out):
    return json.loads((out / "summary.json").read_text())["results"]


@pytest.mark.slow
def test_the_rows(smoke):
    found = {(row["start"], row["depth"], row["rate"]): row for row in rows(smoke.out)}
    assert len(found) == 2 + 2 * len(STARTS)
    assert [found["scratch", depth, 0.05]["steps"] for depth in (8, 14)] == [2, 4]
    for start in STARTS:
        row = found[start.name, 14 if start.deep else 8, 0.005]
        assert 0 <= row["train_error"] <= 1
        assert ("distance_from_dirac" in row) == start.deep
        assert 0 < row.get("distance_from_dirac", 0.01) < 0.1
        result = smoke.out / f"{start.name}_rate0.1_seed0" / "result.json"
        assert row["test_error"] == round(json.loads(result.read_text())["metrics"]["test_error"], 6)


@pytest.mark.slow
def test_runs_that_diverge_are_results(smoke):
    diverged = [row for row in rows(smoke.out) if row["rate"] > 1]
    assert len(diverged) == len(STARTS)
    assert all(row["train_error"] is None and row["diverged_at"] <= 2 for row in diverged)
    assert "(1 of 1 diverged)" in (smoke.out / "report.html").read_text()


@pytest.mark.slow
def test_all_starts_compute_the_same(smoke):
    agreement = json.loads((smoke.out / "summary.json").read_text())["agreement"]
    assert [row["start"] for row in agreement] == [start.name for start in STARTS[1:]]
    for row in agreement:
        assert row["evaluation"] < 2e-6 * 12.3  # of the largest logit
        assert row["evaluation_float64"] < 1e-12
        assert (row["training"] < 1e-5) == ("folded" in row["start"])
    training = {row["start"]: row["training"] for row in agreement}
    assert training["calibrated"] < training["exact"] / 3


@pytest.mark.slow
def test_the_distance_is_that_from_dirac(smoke):
    after = open_run(smoke.out / "exact_rate0.1_seed0").variables["params"]["stage2_block02"]
    before = read_initial(weights(smoke.out, STARTS[1], 0), "")["params"]["stage2_block02"]
    dirac = np.zeros((3, 3, 8, 8))
    dirac[1, 1] = np.eye(8)
    np.testing.assert_array_equal(before["conv1"]["kernel"], dirac)
    moved = np.linalg.norm(after["conv1"]["kernel"] - dirac) / np.sqrt(8)
    (row,) = (row for row in rows(smoke.out) if (row["start"], row["rate"]) == ("exact", 0.005))
    assert 0.2 < moved / row["distance_from_dirac"] < 5


@pytest.mark.slow
def test_a_second_start_trains_nothing_and_writes_the_same(smoke, monkeypatch):
    monkeypatch.setattr("experiments.runner.train_many", lambda *_, **__: pytest.fail("trained again"))
    before = (smoke.out / "summary.json").read_bytes()
    main(smoke)
    assert (smoke.out / "summary.json").read_bytes() == before
    assert len(study_of(smoke.out)["figures"]) == 2


def test_further_runs_share_all_but_their_start_and_rate():
    runs = plan(Args(), flips=True, side=28)
    assert (len(runs.first), len(runs.further)) == (6, 3 * 3 * len(STARTS))
    one, other = (runs.further[runs.of[name, 1, 0.3]].to_json() for name in ("shallow", "calibrated"))
    assert {name for name in one if one[name] != other[name]} == {"model", "initial"}
    assert runs.first["plain56_seed1"].steps == 600 + 150
    assert one["learning_rate"] == pytest.approx(0.3 * 0.05)
    assert one["warmup_steps"] == 0


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"depths": (20,)}, "--depths 20: must be two"),
        ({"depths": (56, 20)}, "--depths 56 20: must be two, the shallow net's and a larger one"),
        ({"rates": (0.1, 0.1)}, "--rates 0.1 0.1: must be different positive numbers"),
        ({"rates": (0.0,)}, "--rates 0: must be"),
        ({"seeds": 0}, "--seeds 0: must be at least 1"),
        ({"further": 0}, "--further 0: must be at least 1"),
    ],
)
def test_impossible_requests(fields, message):
    with pytest.raises(UserError, match=message):
        _ = Args(**fields).chosen


@pytest.mark.parametrize(
    ("depths", "message"),
    [((8, 15), "plain15: depth 15 is not"), ((14, 18), "stem is 'cifar' in the shallow")],
)
def test_impossible_depths_write_nothing(tmp_path, depths, message):
    with pytest.raises(UserError, match=message):
        main(Args(preset="smoke", depths=depths, out=tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_the_recorded_result_is_what_the_docs_say():
    """The solution exists, SGD doesn't find it, leaves it at the peak rate, and stays at a tenth of it."""
    root = Path(__file__).parents[2]
    summary = json.loads((root / "experiments/results/identity_solution/summary.json").read_text())
    page = (root / "docs/experiments/identity_solution.md").read_text()
    for row in summary["agreement"]:
        assert row["evaluation"] < 2e-6 * 12.3  # of the largest logit
        assert row["evaluation_float64"] < 1e-12

    def errors(start, depth, rate):
        where = {"start": start, "depth": depth, "rate": rate}
        found = [100 * row["train_error"] for row in summary["results"] if where.items() <= row.items()]
        assert len(found) == 3
        assert f"{np.mean(found):.1f} ± {np.std(found, ddof=1):.1f}" in page
        return np.array(found)

    solution, scratch = errors("scratch", 20, 0.05), errors("scratch", 56, 0.05)
    assert (scratch > solution + 10).all()
    for start in ("exact", "calibrated"):
        assert (errors(start, 56, 0.05) > errors("shallow", 20, 0.05) + 2).all()
    assert (abs(errors("calibrated", 56, 0.005) - errors("shallow", 20, 0.005)) < 1.5).all()
