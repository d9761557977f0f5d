"""Other programs for the same run: several steps in one dispatch, and a loop over depth.

They are compared in float64, where no ReLU falls to the other side.
"""

import dataclasses
import os
import signal

import jax
import numpy as np
import pytest

import cnnjax
from cnnjax.errors import Interrupted
from cnnjax.probes import LayerProbe
from tests.training import test_loop
from tests.training.test_loop import assert_same, at_step, lines
from tests.training.tiny import DATA

pytestmark = pytest.mark.usefixtures("x64")
CONFIG = dataclasses.replace(test_loop.CONFIG, dtype="float64", augment="flip")


def test_several_steps_in_one_dispatch_give_the_same_numbers(monkeypatch, tmp_path):
    config = dataclasses.replace(CONFIG, evaluate_every=6, checkpoint_every=6)
    probe = LayerProbe(at=lambda step: step == 8)  # 6, 7, 8 go one by one, 0-2, 3-5 and 9-11 three by three
    one_by_one = cnnjax.train(config, tmp_path / "one", data=DATA, probes=probe)
    together = {"data": DATA, "probes": probe, "steps_per_dispatch": 5}
    three_by_three = cnnjax.train(config, tmp_path / "three", **together)
    for ours, theirs in zip(lines(three_by_three.out), lines(one_by_one.out), strict=True):
        np.testing.assert_allclose(list(ours.values()), list(theirs.values()), rtol=1e-9)
    probes = [np.load(result.out / "probes" / "step_8.npz") for result in (three_by_three, one_by_one)]
    np.testing.assert_allclose(*(each["weight_gradient_norm"] for each in probes), rtol=1e-9)
    out = tmp_path / "stopped"
    for step, stopped in ((4, 6), (7, 8)):  # among three, and among single ones
        with monkeypatch.context() as patch:
            at_step(patch, step, lambda: os.kill(os.getpid(), signal.SIGTERM))
            with pytest.raises(Interrupted, match=f"stopped at step {stopped} of 12"):
                cnnjax.train(config, out, **together)
    assert_same(cnnjax.train(config, out, **together), three_by_three)


@pytest.mark.slow
def test_scanned_over_depth_a_run_leaves_the_same(tmp_path):
    """Metrics, result and checkpoints are by block; only rounding may differ."""
    fields = {**CONFIG.model_options, "stage_sizes": (3,)}
    results = []
    for loop_over_depth in ("scan", "unrolled"):
        options = {**fields, "loop": loop_over_depth}
        config = dataclasses.replace(CONFIG, steps=4, model_options=options)
        out, probe = tmp_path / loop_over_depth, LayerProbe(lambda step: True)
        results.append(cnnjax.train(config, out, data=DATA, probes=probe))
        assert cnnjax.train(config, results[-1].out, data=DATA).metrics == results[-1].metrics  # restores
    scanned, unrolled = results
    assert jax.tree.structure(scanned.variables) == jax.tree.structure(unrolled.variables)
    for ours, theirs in zip(lines(scanned.out), lines(unrolled.out), strict=True):
        np.testing.assert_allclose(list(ours.values()), list(theirs.values()), rtol=1e-8)
    ours, theirs = (np.load(result.out / "probes/step_1.npz") for result in results)
    assert list(ours["layers"]) == list(theirs["layers"])
    for name in ("weight_gradient_norm", "activation_gradient_norm", "response_std", "gradient_cosine"):
        np.testing.assert_allclose(ours[name], theirs[name], rtol=1e-7, atol=1e-9)
