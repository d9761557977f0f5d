"""Each recipe trains from the command line, and one that was stopped ends with the same bits.

`STEPS=100 pytest -m slow tests/papers/test_every_recipe.py` takes more steps.
"""

import json
import os
import signal
import sys

import jax
import numpy as np
import pytest

import cnnjax
from cnnjax.papers import RECIPES
from cnnjax.training.stop import Stop
from tests.papers.shrunken import SHRUNKEN, words, write_pictures

STEPS = int(os.environ.get("STEPS", 6))


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    write_pictures(folder)
    return folder


def run(monkeypatch, arguments):
    from cnnjax.__main__ import main

    monkeypatch.setattr(sys, "argv", ["cnnjax", *arguments])
    try:
        main()
    except SystemExit as end:
        return end.code or 0
    return 0


def lines(out):
    found = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name != "time"} for line in found]


def test_every_recipe_has_a_small_network():
    assert set(SHRUNKEN) == set(RECIPES)


@pytest.mark.slow
@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_that_was_stopped_ends_with_the_same_bits(name, monkeypatch, pictures, tmp_path):
    """SIGTERM comes when half of the steps are taken."""
    whole, parts = (words(name, pictures, tmp_path / out, STEPS) for out in ("whole", "parts"))
    assert run(monkeypatch, whole) == 0
    polls = []

    def poll(self):
        polls.append(None)
        if len(polls) == 1 + STEPS // 2:
            self.request(signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(Stop, "poll", poll)
        assert run(patch, parts) == 128 + signal.SIGTERM
    stopped = cnnjax.open_run(tmp_path / "parts").metrics["train_loss"][-1, 0]
    assert 0 < stopped < STEPS
    assert run(monkeypatch, parts) == 0
    ours, theirs = (cnnjax.open_run(tmp_path / out).variables for out in ("whole", "parts"))
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)
    assert lines(tmp_path / "whole") == lines(tmp_path / "parts")
    assert all(np.isfinite(line.get("train_loss", 0)) for line in lines(tmp_path / "whole"))
