import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import cnnjax
from cnnjax.errors import UserError
from cnnjax.runs import open_run
from experiments.landscape.__main__ import main
from experiments.landscape.answers import answer
from experiments.landscape.conclusions import barriers, numbers
from experiments.landscape.curve import curve
from experiments.landscape.settings import ARMS, Args, pairs, plan
from tests.experiments.pages import study_of


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    out = tmp_path_factory.mktemp("landscape")
    args = Args(preset="smoke", steps=2, workers=1, out=out)
    main(args)
    return args


def test_a_net_that_is_moved_nowhere():
    """The centre of the line and that of the plane are the loss itself."""
    line = np.array([3.0, 1.5, 1.0, 2.0, 5.0])
    spectrum = {"values": np.array([-1.0, 0.0, 4.0]), "weights": np.array([0.25, 0.5, 0.25]), "parameters": 8}
    assert numbers({"line": line, **spectrum}) == {
        "loss": 1.0,
        "rise_at_half": 0.75,
        "rise_at_one": 3.0,
        "top_eigenvalue": 4.0,
        "lowest_eigenvalue": -1.0,
        "trace": 6.0,
    }


def test_a_barrier_is_above_the_line_between_the_ends():
    t = np.linspace(0, 1, 5)
    assert barriers({"t": t, "line_loss": 1 + 2 * t + 4 * t * (1 - t)}) == {"line_loss_barrier": 1.0}
    assert barriers({"t": t, "line_loss": 1 - t}) == {"line_loss_barrier": 0.0}


def test_the_runs():
    runs = plan(Args(), flips=True, side=28)
    assert len(runs.nets) == 12
    assert {config.model for config in runs.batches.values()} == {"resnet20"}
    sizes = {
        arm: {(runs.batches[name].batch_size, runs.batches[name].steps) for name in runs.arms[arm]}
        for arm in ARMS
    }
    assert sizes == dict(zip(ARMS, ({(32, 300)}, {(256, 38)}, {(256, 300)}), strict=True))
    assert list(runs.curves) == ["curve_0_1", "curve_1_2", "curve_2_0"]
    assert all(config.steps % config.checkpoint_every == 0 for config in runs.nets.values())
    paper = plan(Args(preset="paper"), flips=True, side=32)
    assert paper.nets["plain56_seed2"].boundaries == (58_650, 87_975, 107_525)
    assert paper.curves["curve_0_1"].boundaries == (39_100, 58_650, 71_683)
    assert paper.batches["batch8192_steps1833_seed0"].steps == 1833
    assert pairs(1) == []
    assert pairs(2) == [(0, 1)]


@pytest.mark.parametrize("fields", [{"points": 4}, {"points": 1}, {"images": 0}, {"seeds": 0}])
def test_impossible_requests(fields):
    with pytest.raises(UserError):
        _ = Args(**fields).chosen


def test_the_answer_says_what_the_numbers_do():
    def row(kind, group, seed, value):
        return {kind: group, "seed": seed, "rise_at_one": value, "top_eigenvalue": 1.0, "box_sharpness": 1.0}

    rows = [
        row("model", "a", 0, 1.0),
        row("model", "a", 1, 3.0),
        row("model", "b", 0, 4.0),
        row("model", "b", 1, 9.0),
    ]
    rows += [row("arm", arm, 0, 1.0) for arm in ARMS]
    others = {
        "trajectories": [{"explained": [0.7, 0.2]}, {"explained": [0.6, 0.15]}],
        "connectivity": [],
    }
    text = answer(rows, others)
    assert "a 2, b 6.5; for all seeds a below b." in text
    assert "The largest eigenvalue: a 1, b 1; no two are apart for all seeds." in text
    assert "90 to 90 %" in text
    assert "straight line" not in text
    rows[1]["rise_at_one"] = 5.0
    assert "a below b" not in answer(rows, others)


@pytest.mark.slow
def test_the_rows(smoke):
    summary = json.loads((smoke.out / "summary.json").read_text())
    rows = summary["results"]
    assert [row["model"] for row in rows if "model" in row] == ["resnet8"] * 2
    assert [row["arm"] for row in rows if "arm" in row] == [arm for arm in ARMS for _ in range(2)]
    assert all(row["lowest_eigenvalue"] < row["top_eigenvalue"] for row in rows)
    assert all(row["box_sharpness"] >= 0 for row in rows if "arm" in row)
    around = np.load(smoke.out / "around" / "resnet8_seed0.npz")
    assert around["plane"][1, 1] == pytest.approx(around["line"][1], rel=1e-6)
    np.testing.assert_allclose(around["plane"][:, 1], around["line"], rtol=1e-5)
    between = np.load(smoke.out / "between" / "0_1.npz")
    for kind in ("loss", "error"):
        np.testing.assert_allclose(
            between[f"line_{kind}"][[0, -1]], between[f"curve_{kind}"][[0, -1]], rtol=1e-5
        )


@pytest.mark.slow
def test_a_second_start_measures_nothing_and_writes_the_same(smoke, monkeypatch):
    monkeypatch.setattr("experiments.landscape.measuring.subject", lambda *_: pytest.fail("measured again"))
    before = (smoke.out / "summary.json").read_bytes()
    main(smoke)
    assert (smoke.out / "summary.json").read_bytes() == before
    assert len(study_of(smoke.out)["figures"]) == 6


@pytest.mark.slow
def test_the_curve_passes_the_ends_and_a_quarter_of_the_bend(smoke):
    """At t = 1/2, where it is tested, it is (a + b) / 4 + bend / 2."""
    ends = [str(smoke.out / f"resnet8_seed{seed}") for seed in range(2)]
    network = curve(10, jnp.float32, ends)
    images = jax.random.normal(jax.random.key(1), (2, 8, 8, 3))
    variables = open_run(smoke.out / "curve_0_1").variables
    a, b = (open_run(end).variables["params"] for end in ends)
    middle = jax.tree.map(lambda a, bend, b: (a + b) / 4 + bend / 2, a, variables["params"], b)
    model = cnnjax.build("resnet8", num_classes=10, width=4)
    expected = model.apply({**variables, "params": middle}, images, train=False)
    found, _ = network.apply(variables, images, train=False)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
