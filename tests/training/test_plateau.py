import dataclasses
import random

import jax
import numpy as np
import pytest

import cnnjax
from cnnjax.files import read_jsonl
from cnnjax.training.plateau import drops
from tests.training.tiny import CONFIG, DATA

TORCH = {  # drops after each test: ReduceLROnPlateau(patience=..., eps=0) of torch 2.13
    0: "0 0 0 0 0 0 1 1 1 1 2 2 2 3 3 3 4 5 6 7 7 8 9 10 10 10 11 12 13 14 15 16 16 17 18 18 19 20 21 22",
    1: "0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 1 1 1 2 2 2 2 3 3 3 3 3 3 4 4 4 4 4 4 4 4 4 5 5 6",
    3: "0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 1 1 1 1 1 1 1 1 1 1 1 1 1 1 2",
}


@pytest.mark.parametrize(("seed", "patience"), list(enumerate(TORCH)))
def test_the_rate_drops_where_torchs_does(seed, patience):
    draw = random.Random(seed)
    errors = [round(max(0.05, 0.9 * 0.93**test) + draw.uniform(-0.06, 0.06), 3) for test in range(40)]
    counts = [drops(errors[: test + 1], patience) for test in range(40)]
    assert counts == list(map(int, TORCH[patience].split()))


def test_the_rate_of_each_step_follows_from_the_tests_before_also_in_a_run_that_goes_on(tmp_path):
    config = dataclasses.replace(
        CONFIG, schedule="plateau", patience=0, rate_drop=0.5, evaluate_every=1, steps=6
    )
    whole = cnnjax.train(config, tmp_path / "whole", data=DATA)
    cnnjax.train(dataclasses.replace(config, steps=2), tmp_path / "parts", data=DATA)
    parts = cnnjax.train(config, tmp_path / "parts", data=DATA)
    jax.tree.map(np.testing.assert_array_equal, parts.variables, whole.variables)

    lines = read_jsonl(whole.out / "metrics.jsonl")
    errors = {line["step"]: line["test_error"] for line in lines if "test_error" in line}
    rates = {line["step"]: line["learning_rate"] for line in lines if "learning_rate" in line}
    expected = {
        step: 0.05 * 0.5 ** drops([errors[test] for test in range(1, step)], patience=0)
        for step in range(1, 7)
    }
    assert rates == pytest.approx(expected)
    assert rates[6] < rates[1]
