import json
from pathlib import Path

import numpy as np
import pytest

from cnnjax.errors import UserError
from cnnjax.models import build
from experiments.lesion.__main__ import main
from experiments.lesion.damage import deletions, disorder, orderings
from experiments.lesion.settings import PRESETS, Args
from tests.experiments.pages import cells_of, study_of


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    out = tmp_path_factory.mktemp("lesion")
    args = Args(preset="smoke", models=("highway6",), steps=2, workers=1, out=out)
    main(args)
    return args


def test_the_rows(smoke):
    summary = json.loads((smoke.out / "summary.json").read_text())
    rows = summary["results"]
    assert {(row["model"], row["seed"]) for row in rows} == {("highway6", 0)}
    blocks = [f"stage1_block{n:02}" for n in range(2, 7)]
    for statistics in ("running", "reestimated"):
        own = [row for row in rows if row["statistics"] == statistics]
        assert [row["deleted"] for row in own[:6]] == [[], *([block] for block in blocks)]
        assert [len(row["deleted"]) for row in own[6:]] == [2, 2]
        assert all(0 <= row["test_error"] <= 1 for row in own)
    moved = [row for row in summary["reorderings"] if row["statistics"] == "running"]
    assert [row["kendall_tau"] for row in moved] == pytest.approx([0.8, 0.8])
    assert all(sorted(row["order"]) == blocks != row["order"] for row in moved)
    whole = rows[0]["test_error"]
    result = json.loads((smoke.out / "highway6_seed0" / "result.json").read_text())
    assert whole == pytest.approx(result["metrics"]["test_error"], abs=1e-6)  # as training measured it


def test_a_second_start_measures_nothing_and_writes_the_same(smoke, monkeypatch):
    monkeypatch.setattr("experiments.lesion.damage.lesion", lambda *_, **__: pytest.fail("measured again"))
    before = (smoke.out / "summary.json").read_bytes()
    main(smoke)
    assert (smoke.out / "summary.json").read_bytes() == before
    study = study_of(smoke.out)
    assert len(study["figures"]) == 2
    assert "highway6" in cells_of(study)


def test_quick_has_a_plain_net_with_the_same_settings():
    found = Args().configs(flips=True, side=28)
    assert len(found) == 15
    plain, residual = found["plain20_seed1"], found["resnet56_seed1"]
    assert {**plain.to_json(), "model": ""} == {**residual.to_json(), "model": ""}
    assert (plain.steps, plain.downsample, plain.model_options) == (600, 2, {"width": 8})


def test_the_papers_nets_can_be_built():
    found = Args(preset="paper").configs(flips=True, side=32)
    assert len(found) == 18
    for config in found.values():
        build(config.model, num_classes=10, **config.model_options)
    assert found["resnet110_seed0"].warmup == "tenth"
    assert found["plain56_seed0"].boundaries == (32_000, 48_000)


def test_orders_have_the_tau_that_they_are_drawn_for():
    random = np.random.default_rng(0)
    groups = [[0, 1, 2, 3], [5, 6, 7]]
    for inversions in (1, 4, 9):
        order = disorder(8, groups, inversions, random)
        assert sum(order[i] > order[j] for i in range(8) for j in range(i + 1, 8)) == inversions
        assert order[4] == 4
        assert all(sorted(order[group]) == group for group in groups)
    orders, taus = orderings(8, groups, PRESETS["quick"], random)
    assert set(taus) == {1 - 2 * n / 28 for n in (1, 3, 4, 6)}  # 9 at most, so that tau is at least .36
    assert orders.shape == (len(taus), 8)


def test_deletions():
    opened = deletions(9, PRESETS["quick"], np.random.default_rng(0))
    closed = (opened == 0).sum(1)
    assert closed.tolist() == [0] + [1] * 9 + [2] * 4 + [3] * 4 + [5] * 4 + [7] * 4
    np.testing.assert_array_equal(opened[1:10], 1 - np.eye(9))


@pytest.mark.parametrize("fields", [{"seeds": 0}, {"draws": 0}, {"models": ("a.py:Net", "b.py:Net")}])
def test_impossible_requests(fields):
    with pytest.raises(UserError):
        _ = Args(**fields).chosen


def test_a_network_without_blocks_is_refused_before_it_is_trained(tmp_path):
    (tmp_path / "net.py").write_text(
        "from flax import linen as nn\n"
        "class Net(nn.Module):\n"
        "    num_classes: int = 10\n"
        "    @nn.compact\n"
        "    def __call__(self, x):\n"
        "        return nn.Dense(self.num_classes)(x.mean((1, 2)))\n"
    )
    with pytest.raises(UserError, match="no blocks"):
        main(Args(preset="smoke", models=(f"{tmp_path}/net.py:Net",), out=tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_the_recorded_result_is_what_the_docs_say():
    """A block of a deep residual net is worth a point, one of a plain net all but everything."""
    root = Path(__file__).parents[2]
    rows = json.loads((root / "experiments/results/lesion/summary.json").read_text())["results"]

    def medians(model, statistics):
        for seed in range(3):
            where = {"model": model, "statistics": statistics, "seed": seed}
            own = [row for row in rows if where.items() <= row.items()]
            (whole,) = (row["test_error"] for row in own if row["deleted"] == [])
            yield 100 * np.median([row["test_error"] - whole for row in own if len(row["deleted"]) == 1])

    page = (root / "docs/experiments/lesion.md").read_text()
    for statistics, residual in (("running", 3), ("reestimated", 2)):
        assert max(medians("resnet56", statistics)) < residual
        assert min(medians("plain20", statistics)) > 50
        for model in ("resnet56", "plain20"):
            found = list(medians(model, statistics))
            assert f"**{np.mean(found):.2f}** ({min(found):.2f} to {max(found):.2f})" in page
