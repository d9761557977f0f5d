"""The study: its model on rows that are made here, and a small run from the command to the folder."""

import json

import numpy as np
import pytest

from cnnjax.diagnosis.features import FEATURES
from cnnjax.diagnosis.verdict import judge, model, probability_of
from experiments.runner import Findings
from experiments.trainability.__main__ import main as run_study
from experiments.trainability.families import patients
from experiments.trainability.settings import EXAMINED, Args
from experiments.trainability.verdict import conclude, fit, hits


def rows_of(number=60):
    """Networks that train if the batch is learnt by heart, whatever else they do; three families."""
    draw = np.random.default_rng(0)
    rows = []
    for index in range(number):
        learnt = draw.random()
        features = {name: draw.normal() for name in FEATURES} | {"learnt50": learnt}
        features["shattered"] = None  # not measured
        loss = 0.3 + 2 * learnt
        rows.append(
            {
                "family": f"family {index % 3}", "model": str(index), "gain": 1.0, "rate": 0.1,
                "train_loss": None if learnt > 0.95 else loss, "trained": learnt < 0.4,
                "features": {str(step): features for step in EXAMINED},
            }
        )  # fmt: skip
    return rows


def test_what_decides_is_found_and_held_out(tmp_path):
    found = Findings(results=rows_of())
    conclude(found, tmp_path, 300)
    written = json.loads((tmp_path / "verdict.json").read_text())
    assert written["auc"] > 0.95
    assert written["rank_correlation"] > 0.8
    heaviest = max(written["terms"], key=lambda term: abs(term["weight"]))
    assert heaviest["feature"] == "learnt50"
    assert sum(of for _, of in written["hits"].values()) == 60
    assert len(found.tables) == 3
    assert (tmp_path / "verdicts.png").exists()


def test_a_probability_is_the_logistic_function_of_standardised_terms():
    rows = rows_of()
    fitted = fit(rows, np.array([row["trained"] for row in rows]))
    features = {name: 0.3 for name in FEATURES}
    total = fitted["intercept"] + sum(
        term["weight"] * (0.3 ** term["power"] - term["mean"]) / term["std"] for term in fitted["terms"]
    )
    assert probability_of(features, fitted) == pytest.approx(1 / (1 + np.exp(-total)))
    unknown = {**features, "alike": float("nan")}
    typical = next(term["typical"] for term in fitted["terms"] if term["feature"] == "alike")
    assert probability_of(unknown, fitted) == probability_of({**features, "alike": typical}, fitted)


def test_hits_count_what_was_right():
    trained, probability = np.array([True, False, True, False]), np.array([0.9, 0.8, 0.5, 0.1])
    assert hits(trained, probability) == {"trains": [1, 2], "unlikely": [1, 1], "unknown": [1, 1]}


def test_the_packaged_verdict_tells_extremes_apart_and_says_how_good_it_is():
    assert model()["auc"] > 0.8
    good = dict.fromkeys(FEATURES, 0.0) | {"update": -2, "spread": 1, "jacobian": 1, "linear": 0.9}
    good |= {"alike": 0.2, "alignment": 0.7, "learnt10": 0.3, "learnt50": 0.001}
    bad = {**good, "update": -8, "jacobian": -6, "linear": 1, "learnt10": 1, "learnt50": 1, "alike": 5}
    assert judge(good).word == "trains"
    assert judge(bad).word == "unlikely"
    assert "On families held out" in str(judge(good))


def test_there_are_enough_networks_of_enough_families():
    found = patients((8, 20, 44), 4)
    assert sum(len(one.gains) * len(one.rates) for one in found) >= 120
    assert len({one.family for one in found}) >= 8


@pytest.mark.slow
def test_the_command(tmp_path, capsys):
    run_study(Args(preset="smoke", out=tmp_path / "study", workers=1))
    rows = json.loads((tmp_path / "study" / "summary.json").read_text())["results"]
    assert len(rows) == 9
    assert all(set(row["features"]) == {"0", "1", "2", "5", "10"} for row in rows)
    assert all(set(row["features"]["0"]) == set(FEATURES) for row in rows)
    assert (tmp_path / "study" / "report.html").exists()
    assert "Each statistic alone" in capsys.readouterr().out
