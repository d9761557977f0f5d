import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax.errors import UserError
from cnnjax.probes.path_lengths import binomial
from experiments.paths.__main__ import main
from experiments.paths.conclusions import effective, fit
from experiments.paths.settings import Args
from experiments.paths.short import short_paths
from tests.experiments.pages import study_of


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    out = tmp_path_factory.mktemp("paths")
    args = Args(preset="smoke", models=("resnet8",), steps=2, workers=1, out=out)
    main(args)
    return args


def test_the_rows(smoke):
    summary = json.loads((smoke.out / "summary.json").read_text())
    rows = summary["results"]
    assert [(row["model"], row["seed"], row["state"]) for row in rows] == [
        ("resnet8", 0, "initial"),
        ("resnet8", 0, "trained"),
    ]
    for row in rows:
        assert row["blocks"] == 3
        assert row["gap"] < 1e-4
        assert len(row["exact_shares"]) == len(row["single"]) == 4
        assert sum(row["sampled_shares"]) == pytest.approx(1)
    (training,) = summary["training"]
    result = json.loads((smoke.out / "resnet8_seed0" / "result.json").read_text())
    assert training["test_error"] == result["metrics"]["test_error"]


def test_a_second_start_measures_nothing_and_writes_the_same(smoke, monkeypatch):
    monkeypatch.setattr("experiments.paths.measurement.path_lengths", lambda *_, **__: pytest.fail("again"))
    before = (smoke.out / "summary.json").read_bytes()
    main(smoke)
    assert (smoke.out / "summary.json").read_bytes() == before
    study = study_of(smoke.out)
    assert len(study["figures"]) == 1


def test_in_training_so_many_blocks_are_open_and_in_test_all_in_part():
    """Each block adds 1, so the sum says how many were open."""
    network = short_paths(num_classes=3, dtype=jnp.float32, model="resnet8", opened=2, width=2)
    images = jnp.zeros((2, 4, 4, 1))
    variables = network.init(jax.random.key(0), images)
    params = jax.tree.map(jnp.zeros_like, variables["params"])
    for stage in (1, 2, 3):
        params[f"stage{stage}_block01"]["bn2"]["bias"] += 1.0
    params["classifier"]["kernel"] += 1 / 8  # the last stage has 8 channels, all positive
    variables = {**variables, "params": params}

    def first(key, train):
        return network.apply(variables, images, train=train, key=key)[0][0, 0]

    assert float(first(None, False)) == pytest.approx(_sum(2 / 3, 2 / 3, 2 / 3), rel=1e-5)
    train = jax.jit(lambda key: first(key, True))
    found = {round(float(train(jax.random.key(n))), 4) for n in range(12)}
    expected = {round(_sum(*opened), 4) for opened in ((1, 1, 0), (1, 0, 1), (0, 1, 1))}
    assert found == expected


def _sum(first, second, third):
    """Of the last channels' mean: shortcuts pad 2 channels to 4 and 8 with zeros."""
    return (2 * first + 4 * second + 8 * third) / 8


def test_a_fit_of_an_exponential():
    factor, r2 = fit(3 * 0.5 ** np.arange(9))
    assert (factor, r2) == pytest.approx((0.5, 1))
    assert fit(np.exp([0.0, -2.0, 0.0, -2.0]))[1] < 0.5


def test_effective_lengths():
    found = effective(binomial(54))
    assert found["mean"] == pytest.approx(27)
    assert found["std"] == pytest.approx(np.sqrt(54) / 2)
    assert (found["low"], found["high"]) == (20, 34)


def test_quick_trains_by_short_paths_with_the_same_settings():
    found = Args().configs(flips=True, side=28)
    assert len(found) == 9
    short_run, whole = found["short_paths_seed0"], found["resnet56_seed0"]
    assert {**short_run.to_json(), "model": "", "model_options": {}} == {
        **whole.to_json(), "model": "", "model_options": {}
    }  # fmt: skip
    assert short_run.model_options == {"model": "resnet56", "opened": 12, "width": 8}


@pytest.mark.parametrize("fields", [{"seeds": 0}, {"draws": 0}, {"images": 0}])
def test_impossible_requests(fields):
    with pytest.raises(UserError):
        _ = Args(**fields).chosen


def test_more_open_blocks_than_there_are():
    network = short_paths(num_classes=3, dtype=jnp.float32, model="resnet8", opened=4, width=2)
    images = jnp.zeros((2, 4, 4, 1))
    with pytest.raises(UserError, match="has 3 blocks"):
        network.apply(network.init(jax.random.key(0), images), images, train=False)


def test_a_network_without_blocks_is_refused_before_it_is_trained(tmp_path):
    (tmp_path / "net.py").write_text(
        "from flax import linen as nn\n"
        "class Net(nn.Module):\n"
        "    num_classes: int = 10\n"
        "    @nn.compact\n"
        "    def __call__(self, x):\n"
        "        return nn.Dense(self.num_classes)(nn.relu(nn.Dense(3)(x.mean((1, 2)))))\n"
    )
    with pytest.raises(UserError, match="no residual blocks"):
        main(Args(preset="smoke", models=(f"{tmp_path}/net.py:Net",), out=tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_the_recorded_result_is_what_the_docs_say():
    """The gradient along one path falls exponentially with its length, and training makes it fall faster."""
    root = Path(__file__).parents[2]
    rows = json.loads((root / "experiments/results/paths/summary.json").read_text())["results"]
    page = (root / "docs/experiments/paths.md").read_text()
    for state, bound in (("initial", 0.75), ("trained", 0.6)):
        own = [row for row in rows if (row["model"], row["state"]) == ("resnet56", state)]
        assert len(own) == 3
        assert all(row["factor"] < bound and row["r2"] > 0.98 and row["gap"] < 1e-5 for row in own)
        assert f"| {state} | **{np.mean([row['factor'] for row in own]):.3f}** |" in page
        lengths = [np.mean([row["exact"][name] for row in own]) for name in ("mean", "std")]
        assert "{:.1f} ± {:.1f}".format(*lengths) in page
