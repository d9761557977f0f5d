import json

import jax
import numpy as np
import pytest

from cnnjax.data import load
from cnnjax.diagnosis.verdict import model
from cnnjax.errors import UserError
from cnnjax.optimizers import make_optimizer
from experiments.degradation_causes.__main__ import main
from experiments.degradation_causes.claims import BETTER, DIVERGES, SAME, TRAINS, WORSE, answer, outcome
from experiments.degradation_causes.conclusions import conclude
from experiments.degradation_causes.measurement import first_steps, relative
from experiments.degradation_causes.remedies import NAMES
from experiments.degradation_causes.settings import Args, plan
from experiments.runner import Findings, check_on_shapes


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    args = Args(
        preset="smoke",
        steps=3,
        workers=1,
        remedies=("clipping",),
        out=tmp_path_factory.mktemp("degradation_causes") / "out",
    )
    main(args)
    return args


def rows(out):
    return json.loads((out / "summary.json").read_text())["results"]


@pytest.mark.slow
def test_the_rows(smoke):
    found = rows(smoke.out)
    assert [(row["network"], row["remedy"], row["changes"]) for row in found] == [
        ("plain8", "none", "reference"),
        ("plain14", "none", "reference"),
        ("plain14", "clipping", "training"),
    ]
    for row in found:
        assert 0 <= row["training_error"] <= 1
        assert row["verdict"] in ("trains", "unlikely", "unknown")
        assert [one["step"] for one in row["gradients"]] == [0, 1, 2]
    untreated, clipped = (row["gradients"] for row in found[1:])
    for name in ("first_gradient", "first_weight"):  # the same weights and batch; what is clipped is later
        assert clipped[0][name] == untreated[0][name]
    assert clipped[1]["first_weight"] != untreated[1]["first_weight"]


@pytest.mark.slow
def test_the_same_command_repeats_nothing(smoke):
    before = (smoke.out / "summary.json").read_text()
    files = [path for path in smoke.out.glob("*/*") if path.suffix in (".npz", ".json")]
    kept = {path: path.stat().st_mtime_ns for path in files}
    assert kept
    main(smoke)
    assert (smoke.out / "summary.json").read_text() == before
    assert {path: path.stat().st_mtime_ns for path in kept} == kept


@pytest.mark.parametrize("depths", [(20, 56), (20, 56, 110)])
def test_results_of_all_arms_are_concluded(tmp_path, depths):
    """From files of runs that were not made, one of which diverged: rows, figures, table and answer."""
    args = Args(depths=depths, seeds=2)
    arms = plan(args, flips=True, side=28)
    ends = {}
    for arm in arms:
        for seed in range(2):
            (tmp_path / arm.run(seed)).mkdir()
            own = {"first_gradient": 4.0, "last_gradient": 2.0, "first_weight": 1.0, "relative": 0.5 + seed}
            line = {"step": 1, **{f"gradients/{name}": value for name, value in own.items()}}
            (tmp_path / arm.run(seed) / "metrics.jsonl").write_text(json.dumps(line) + "\n")
            error = 0.2 if arm.shallow else 0.5 + 0.01 * seed
            ends[arm.run(seed)] = {"train_error": error, "test_error": error, "train_loss": error}
    diverged = arms[-1].run(1)
    ends[diverged] = {"diverged_at": 7}
    verdict = {"word": np.array(["trains", "unlikely"]), "probability": np.array([0.8, 0.1])}
    found = Findings()
    conclude(arms, args.chosen, ends, [verdict] * len(arms), found, tmp_path, chance=0.9)
    assert len(found.results) == 2 * len(arms)
    assert [row["shallow"] for row in found.results].count(True) == 2
    assert found.results[-1]["diverged_at"] == 7
    assert found.results[-1]["training_error"] is None
    assert not found.results[-1]["trained"]
    assert {row["gradients"][0]["first_to_last"] for row in found.results} == {2.0}
    (table,) = found.tables.values()
    assert len(table[1]) == len(arms)
    assert (tmp_path / "remedies.png").stat().st_size > 1_000
    assert (tmp_path / "gradients.svg").stat().st_size > 1_000
    assert answer(found.results).count("Answer, for plain") == len(depths) - 1


def test_a_remedy_is_the_only_change():
    """Each arm's config differs from the untreated net's in what its remedy says."""
    arms = {arm.remedy.name: arm for arm in plan(Args(), flips=True, side=28) if arm.patient == "plain56"}
    untreated = arms["none"].config.to_json()

    def changed(name):
        own = arms[name].config.to_json()
        return {field: own[field] for field in own if own[field] != untreated[field]}

    assert changed("warmup") == {"warmup_steps": 100}
    assert changed("clipping") == {"clip_layer_norm": 0.3}
    assert changed("fixed_norms") == {"fixed_norms": True}
    assert set(changed("longer")) == {"steps", "evaluate_every", "checkpoint_every"}
    assert changed("longer")["steps"] == 3 * untreated["steps"]
    assert changed("lower_rate") == {"learning_rate": pytest.approx(0.3 * untreated["learning_rate"])}
    assert changed("layer_norm") == {"model_options": {"width": 8, "loop": "scan", "norm": "layer"}}
    assert changed("shortcuts") == {"model": "resnet56"}
    assert changed("looks_linear")["model"] == "looks_linear58"
    assert len(arms) == 15


def test_the_network_of_every_remedy_runs():
    """On shapes: that no remedy is one that its network, data or optimizer refuses."""
    data = load("synthetic")
    arms = plan(Args(preset="smoke", remedies=NAMES), flips=False, side=32)
    assert len(arms) == 2 + len(NAMES)
    for arm in [arm for arm in arms if arm.remedy.kind in ("network", "shortcuts")]:

        def look(network, variables, batch, config=arm.config):
            outputs, _ = network.apply(variables, batch[0], train=True, key=jax.random.key(0))
            assert outputs.shape == (2, 10)
            make_optimizer(config).init(variables["params"])

        check_on_shapes(arm.config, data, look)


def test_ones_own_network_has_the_remedies_of_training():
    arms = plan(Args(models=("path/net.py:Net",)), flips=True, side=28)
    assert [arm.remedy.name for arm in arms] == [
        "none", "warmup", "clipping", "fixed_norms", "longer", "lower_rate",
    ]  # fmt: skip
    assert {arm.config.model for arm in arms} == {"path/net.py:Net"}
    assert arms[0].run(1) == "Net_none_seed1"


def test_the_relative_gradient_is_a_median_over_weights_that_are_not_zero():
    gradient, weight = np.array([6.0, 4.0, 5.0, 2.0, 9.0]), np.array([2.0, 4.0, 0.0, 4.0, 3.0])
    assert float(relative(gradient, weight)) == 2.0  # of 3, 1, .5 and 3


def test_the_first_steps_are_read(tmp_path):
    def line(step, first, last):
        own = {"first_gradient": first, "last_gradient": last, "first_weight": 2.0, "relative": 0.5}
        return json.dumps({"step": step, **{f"gradients/{name}": value for name, value in own.items()}})

    lines = [
        line(1, 6.0, 0.25),
        line(2, 0.0, 0.0),
        line(4, 1.0, 1.0),
        json.dumps({"step": 4, "test_error": 0.1}),
    ]
    (tmp_path / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    found = first_steps(tmp_path)
    assert [(one["step"], one["first_to_last"]) for one in found] == [(0, 24.0), (1, None)]  # 3 is not shown


@pytest.mark.parametrize(
    ("errors", "expected"),
    [
        ((0.2, 0.25), TRAINS),
        ((0.3, 0.4), BETTER),
        ((0.3, 0.5), SAME),
        ((0.7, 0.8), WORSE),
        ((0.2, None), DIVERGES),
    ],
)
def test_an_outcome_is_that_of_every_seed(errors, expected):
    assert outcome(errors, untreated=(0.45, 0.6), shallow=(0.15, 0.22)) == expected


def row(
    remedy, changes, errors, patient="plain56", ratio=100.0, last=0.01, trained=False, verdict="unlikely"
):
    gradients = [
        {"step": 0, "first_to_last": ratio, "relative": 1.0, "first_gradient": ratio, "first_weight": 4.0},
        {"step": 20, "first_to_last": last, "relative": 1.0, "first_gradient": last, "first_weight": 40.0},
    ]
    return [
        {
            "patient": patient,
            "network": patient,
            "remedy": remedy,
            "changes": changes,
            "shallow": patient == "plain20",
            "training_error": error,
            "gradients": gradients,
            "trained": trained,
            "verdict": verdict,
        }
        for error in errors
    ]


def test_the_answer_follows_the_numbers():
    shallow = row("none", "reference", (0.18, 0.22), "plain20", 2.0, trained=True, verdict="trains")
    untreated = row("none", "reference", (0.58, 0.62))
    text = answer(
        [
            *shallow,
            *untreated,
            *row("warmup", "training", (0.49, 0.51)),
            *row("longer", "training", (0.57, 0.61)),
            *row("looks_linear", "network", (0.2, 0.23), trained=True),
            *row("delta_orthogonal", "network", (0.8, None)),
        ]
    )
    assert "its training error is 60.0 ± 2.8 %; that of plain20 is 20.0 ± 2.8 %" in text
    assert "but explode" in text
    assert "100 times the last one's (plain20: 2)" in text
    assert "the first layer's gradient is 10,000 times smaller than at first" in text
    assert "footnote 3) holds here, too" in text
    assert "explains a part of the gap, not all: warm-up, the best remedy against it, closes 25 %" in text
    assert "that looks-linear nets train without shortcuts holds" in text
    assert "delta-orthogonal ones do" not in text  # a divergence proves nothing about the claim
    assert "was right for 10 of 12 runs" in text

    opposite = answer(
        [
            *shallow,
            *row("none", "reference", (0.58, 0.62), ratio=0.01),
            *row("longer", "training", (0.2, 0.21)),
        ]
    )
    assert "vanish towards the input" in opposite
    assert "do not vanish" not in opposite
    assert "that is enough" in opposite
    assert "explosion" not in opposite
    assert "Balduzzi" not in opposite


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"remedies": ("prayer",)}, "--remedies 'prayer': must be of warmup, clipping"),
        ({"depths": (20,)}, "--depths 20: must be two or more"),
        ({"depths": (56, 20)}, "--depths 56 20: the shallow net's must come first"),
        ({"depths": (20, 55)}, r"--depths 20 55: each must be 6n \+ 2"),
        ({"seeds": 0}, "--seeds 0: must be at least 1"),
        ({"steps": 0}, "--steps 0: must be at least 1"),
    ],
)
def test_impossible_requests(fields, message):
    with pytest.raises(UserError, match=message):
        _ = Args(**fields).chosen


def test_the_verdict_needs_no_single_samples():
    """They are left out of the examination; a term that needs them would count as typical."""
    assert not {term["feature"] for term in model()["terms"]} & {"alignment", "shattered"}
