"""The watch over training: what it says, and that it changes nothing."""

import jax
import numpy as np
import pytest

import cnnjax
from cnnjax.errors import UserError
from cnnjax.files import read_jsonl
from cnnjax.probes import Health


def measured(loss=1.0, rms=(1.0, 1.0, 1.0), dead=(0.0, 0.0, 0.0)):
    return {
        "loss": np.float32(loss),
        "gradient_norm": np.float32(1.0),
        "dead_layers": np.float32(0),
        "rms": np.array(rms),
        "weight_gradient_norm": np.ones(3),
        "dead": np.array(dead),
        "layers": ("a", "b", "c"),
    }


def test_a_jump_is_told_with_the_layer_where_it_began():
    health = Health()
    for step in range(6):
        assert health.remarks(step, "run", measured()) == []
    (line,) = health.remarks(6, "run", measured(loss=9, rms=(1.0, 40.0, 50.0)))
    assert line == (
        "step 6: the loss jumped to 9 from about 1; it began in b, whose output is 40 times its usual size"
    )
    (line,) = health.remarks(7, "run", measured(loss=np.nan))
    assert "the loss jumped to nan" in line


def test_a_dead_layer_is_told_once():
    health = Health()
    (line,) = health.remarks(0, "run", measured(dead=(0, 1, 0)))
    assert "b is dead" in line
    assert health.remarks(1, "run", measured(dead=(0, 1, 0))) == []
    assert health.remarks(2, "other", measured(dead=(0, 1, 0))) != []


def test_every_must_be_a_step():
    with pytest.raises(UserError, match="every=0"):
        Health(every=0)


@pytest.mark.usefixtures("x64")
def test_it_rides_along_and_changes_nothing(tmp_path):
    def train(name, probes):
        config = cnnjax.Config(
            model="plain8", model_options={"width": 2, "norm": "none"}, data="synthetic", downsample=2,
            steps=6, batch_size=8, learning_rate=0.01, evaluate_every=6, checkpoint_every=6, augment="none",
            dtype="float64",
        )  # fmt: skip
        return cnnjax.train(config, tmp_path / name, probes=probes)

    plain, watched = train("plain", ()), train("watched", [Health(every=2)])
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12),
        plain.variables,
        watched.variables,
    )
    lines = [line for line in read_jsonl(watched.out / "metrics.jsonl") if "health/loss" in line]
    assert [line["step"] for line in lines] == [1, 3, 5]
    for line in lines:
        assert line["health/loss"] == pytest.approx(line["train_loss"], rel=1e-9)
    assert not (watched.out / "probes").exists()
