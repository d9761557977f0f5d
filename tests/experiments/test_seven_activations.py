import json
from pathlib import Path

import numpy as np
import pytest

from cnnjax.errors import UserError
from cnnjax.models import build
from experiments.activations.__main__ import main
from experiments.activations.conclusions import answer, steps_to
from experiments.activations.settings import ACTIVATIONS, PLACES, Args, Tried
from experiments.activations.stack import expected_factors, gradient_norms, mean_factor
from experiments.runner import Findings
from tests.experiments.pages import study_of

DIVERGING = 1e30
BEFORE, AFTER = "BatchNorm before", "BatchNorm after"


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    out = tmp_path_factory.mktemp("activations")
    args = Args(
        preset="smoke", activations=("prelu",), steps=2, seeds=2, rates=(0.01, DIVERGING), workers=1, out=out
    )
    main(args)
    return args


@pytest.mark.slow
def test_the_rows(smoke):
    summary = json.loads((smoke.out / "summary.json").read_text())
    assert [(row["place"], row["seed"]) for row in summary["results"]] == [
        (place, seed) for place in PLACES for seed in (0, 1)
    ]
    for row in summary["results"]:
        assert (row["rate"], row["steps_to_25"]) == (0.01, None)
        place = row["place"].replace(" ", "_").lower()
        folder = smoke.out / f"alexnet_cifar_prelu_{place}_rate0.01_seed{row['seed']}"
        assert row["test_error"] == round(
            json.loads((folder / "result.json").read_text())["metrics"]["test_error"], 6
        )
    for row in summary["rates"]:
        assert row["mean_error"][f"{DIVERGING:g}"] == 1  # it diverges
    assert {(row["place"], row["seed"]) for row in summary["factor_per_layer"]} == {
        (place, seed) for place in PLACES for seed in (0, 1)
    }


@pytest.mark.slow
def test_a_second_start_trains_nothing_and_writes_the_same(smoke, monkeypatch):
    monkeypatch.setattr("experiments.runner.train_many", lambda *_, **__: pytest.fail("trained again"))
    monkeypatch.setattr(
        "experiments.activations.losses.gradient_norms", lambda *_: pytest.fail("measured again")
    )
    before = (smoke.out / "summary.json").read_bytes()
    main(smoke)
    assert (smoke.out / "summary.json").read_bytes() == before
    study = study_of(smoke.out)
    assert len(study["figures"]) == 2
    assert "not reached by all seeds with ReLU" in str(study)


def test_steps_to_a_mean_error():
    errors = np.array([0.9, 0.5, 0.3, 0.2, 0.3, 0.1])
    assert steps_to(errors, 1) == 4
    assert steps_to(errors, 2) == 4
    assert steps_to(errors, 3) == 6
    assert steps_to(errors, 5) is None
    assert steps_to(errors[:1], 2) is None


def test_the_answer_has_a_ratio_only_if_all_seeds_get_there():
    def row(activation, place, steps):
        return {"model": "net", "activation": activation, "place": place, "steps_to_25": steps}

    found = Findings([
        row("relu", "without BatchNorm", 40), row("relu", "without BatchNorm", 60),
        row("tanh", "without BatchNorm", 100), row("tanh", "without BatchNorm", 200),
        row("sigmoid", "without BatchNorm", 100), row("sigmoid", "without BatchNorm", None),
    ])  # fmt: skip
    found.others["factor_per_layer"] = []
    said = answer(found)
    assert "50 with ReLU, 150 with tanh (3.0 times as many), not by all seeds with sigmoid" in said
    assert "BatchNorm after: not reached by all seeds with ReLU" in said


def test_every_network_gets_the_rate_that_is_best_for_it():
    args = Args(rates=(0.1, 0.3))
    arms = list(args.arms())
    assert (len(arms), len(args.pilots(28))) == (21, 42)
    others = args.others([Tried(arm, {0.1: 0.5 + 0.1 * n, 0.3: 0.7}) for n, arm in enumerate(arms)], 28)
    assert len(others) == 2 * 21
    assert {config.learning_rate for name, config in others.items() if "_relu_without" in name} == {0.1}
    assert {config.learning_rate for name, config in others.items() if "_sigmoid_" in name} == {0.3}
    config = args.pilots(28)["alexnet_cifar_tanh_batchnorm_after_rate0.3_seed0"]
    assert (config.schedule, config.weight_decay, config.augment) == ("constant", 0.0, "none")
    assert config.model_options == {
        "width": 8, "norm": "batch", "order": "bn_after_activation", "activation": "tanh",
        "kernel_init": "glorot",
    }  # fmt: skip


@pytest.mark.parametrize("place", PLACES)
def test_plain_nets_have_the_fields_too(place):
    for activation in ACTIVATIONS.values():
        options = {"activation": activation.name, "kernel_init": activation.kernel_init}
        build("plain20", **options, **PLACES[place])


@pytest.mark.parametrize(
    ("name", "place", "tolerance"),
    [("sigmoid", "without BatchNorm", 0.02), ("relu", AFTER, 0.05), ("tanh", BEFORE, 0.05)],
)
def test_a_stack_agrees_with_theory(name, place, tolerance):
    """Wide layers on many inputs: what is left is the spread over weights."""
    norms = gradient_norms(ACTIVATIONS[name], place, 4, 192, 2)
    expected = np.exp(np.log(expected_factors(ACTIVATIONS[name], place, 4)).mean())
    assert norms.dtype == np.float64
    np.testing.assert_allclose(mean_factor(norms).mean(), expected, rtol=tolerance)


def test_theory_of_layers_whose_variance_goes_on():
    """PReLU as it starts: (1 + 1/16) / 2 of the variance is left, and of a gradient's square, times 2."""
    np.testing.assert_allclose(
        expected_factors(ACTIVATIONS["prelu"], "without BatchNorm", 5),
        np.full(4, np.sqrt(17 / 16)),
        rtol=1e-6,
    )
    assert expected_factors(ACTIVATIONS["sigmoid"], "without BatchNorm", 20).max() < 1 / 4


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"rates": (0.1, 0.1)}, "--rates 0.1 0.1: must be different positive numbers"),
        ({"rates": ()}, "--rates : must be"),
        ({"activations": ("swish",)}, "--activations swish: must be some of relu, leaky_relu"),
        ({"seeds": 0}, "--seeds 0: must be at least 1"),
    ],
)
def test_impossible_requests(fields, message):
    with pytest.raises(UserError, match=message):
        _ = Args(**fields).chosen


def test_a_network_without_the_fields_is_refused_before_it_is_trained(tmp_path):
    with pytest.raises(UserError, match="kernel_init"):
        main(Args(preset="smoke", models=("highway6",), out=tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_the_recorded_result_is_what_the_docs_say():
    """With BatchNorm ReLU is before tanh and the sigmoid; without it the sigmoid gets nowhere."""
    root = Path(__file__).parents[2]
    summary = json.loads((root / "experiments/results/activations/summary.json").read_text())
    page = (root / "docs/experiments/activations.md").read_text()

    def steps(activation, place):
        where = {"activation": activation, "place": place}
        found = [row["steps_to_25"] for row in summary["results"] if where.items() <= row.items()]
        assert len(found) == 3
        if None not in found:
            assert f"| **{np.mean(found):.0f}** ({min(found)} to {max(found)}) |" in page
        return found

    for place in (BEFORE, AFTER):
        relu, tanh, sigmoid = (np.mean(steps(name, place)) for name in ("relu", "tanh", "sigmoid"))
        assert relu < min(tanh, sigmoid)
    assert steps("sigmoid", "without BatchNorm") == [None] * 3
    assert np.mean(steps("tanh", "without BatchNorm")) < np.mean(steps("relu", "without BatchNorm"))
    for row in summary["factor_per_layer"]:
        if (row["activation"], row["place"]) != ("gelu", "without BatchNorm"):  # the page says so
            assert row["factor"] == pytest.approx(row["expected"], rel=0.02)
        if (row["activation"], row["place"]) == ("sigmoid", "without BatchNorm"):
            assert row["factor"] < 1 / 4
