"""Runs that exist: opened, tested again, used to predict, and listed."""

import dataclasses
import sys

import jax
import numpy as np
import optax
import pytest
from flax import linen as nn
from PIL import Image

import cnnjax
from cnnjax.__main__ import main
from cnnjax.errors import UserError
from cnnjax.runs import RUN_COLUMNS, run_rows

DRAW = np.random.default_rng(0)
X, Y = DRAW.integers(0, 256, (40, 6, 6, 1), np.uint8), np.arange(40) % 3
CONFIG = cnnjax.Config(augment="none", steps=4, batch_size=8, evaluate_every=2, checkpoint_every=2, ema=0.5)


class Net(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(3)(x.reshape(len(x), -1))


def doubled(outputs, labels):
    return 2 * optax.softmax_cross_entropy_with_integer_labels(outputs, labels)


OBJECTS = {
    "model": Net(),
    "optimizer": optax.sgd(0.1),
    "loss": doubled,
    "data": (X[:32], Y[:32], X[32:], Y[32:]),
}
FILE = """
from flax import linen as nn

class Net(nn.Module):
    num_classes: int = 10

    @nn.compact
    def __call__(self, x):
        return nn.Dense(self.num_classes)(x[:, ::7, ::7].reshape(len(x), -1))
"""


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A run of objects alone, and one of a network in a file."""
    root = tmp_path_factory.mktemp("runs")
    cnnjax.train(CONFIG, root / "objects", **OBJECTS)
    (root / "net.py").write_text(FILE)
    named = dataclasses.replace(CONFIG, model=f"{root}/net.py:Net", data="fashion_mini", ema=0.0)
    cnnjax.train(named, root / "file")
    return root


def test_it_tests_the_weights_and_their_average(runs):
    run = cnnjax.open_run(runs / "objects", **OBJECTS)
    assert run.evaluate() == pytest.approx({k: v for k, v in run.final.items() if "train" not in k})
    assert run.evaluate(step=2)["test_loss"] == pytest.approx(run.metrics["test_loss"][0, 1])
    halved = run.evaluate(loss=lambda outputs, labels: doubled(outputs, labels) / 2)
    assert 2 * halved["averaged_test_loss"] == pytest.approx(run.final["averaged_test_loss"])
    assert run.evaluate(data=(X[:32], Y[:32], X[:8], Y[:8])) != run.evaluate()


@pytest.mark.parametrize("name", ["model", "data", "loss"])
def test_an_object_that_its_test_depends_on_must_be_given(runs, name):
    """Not the optimizer: nothing is trained."""
    given = {key: value for key, value in OBJECTS.items() if key not in (name, "optimizer")}
    with pytest.raises(UserError, match=f"trained with an object, {name}=.*cnnjax.open_run") as told:
        cnnjax.open_run(runs / "objects", **given).evaluate()
    assert "\n" not in str(told.value)


def test_metrics_are_a_frame_where_pandas_is(runs):
    pytest.importorskip("pandas")
    frame = cnnjax.open_run(runs / "objects").frame
    assert list(frame.index) == [1, 2, 3, 4]
    np.testing.assert_array_equal(frame["test_loss"].isna(), [True, False, True, False])


def test_pictures_are_prepared_as_the_data_was(runs, tmp_path):
    run = cnnjax.open_run(runs / "file")
    pixels = run.task.data.test_images[0]
    Image.fromarray(pixels[..., 0]).save(tmp_path / "image.png")
    ((best, *others),) = run.predict([tmp_path / "image.png"])
    logits = run.model.apply(run.variables, run.task.normalize(pixels[None]))[0]
    odds = np.asarray(jax.nn.softmax(logits))
    assert best == (odds.argmax(), pytest.approx(odds.max(), rel=1e-5))
    assert len(others) == 4


def test_runs_are_listed(runs):
    rows = run_rows(runs)
    assert [row[0] for row in rows] == ["file", "objects"]
    found = [dict(zip(RUN_COLUMNS, row, strict=True)) for row in rows]
    assert [row["state"] for row in found] == ["finished", "finished"]
    assert {row["steps"] for row in found} == {"4"}
    assert found[1]["test error"] == f"{100 * cnnjax.open_run(runs / 'objects').final['test_error']:.2f}"


def test_commands_open_runs(runs, tmp_path, monkeypatch, capsys):
    def say(*words):
        monkeypatch.setattr(sys, "argv", ["cnnjax", *map(str, words)])
        main()
        return capsys.readouterr().out

    Image.fromarray(X[0, ..., 0]).save(tmp_path / "image.png")
    assert "net.py:Net" in say("runs", runs)
    final = cnnjax.open_run(runs / "file").final
    said = say("evaluate", runs / "file", "--metrics", "top5_error")
    assert f"test_loss {final['test_loss']:.4f}" in said
    assert "test_top5_error" in said
    assert say("predict", runs / "file", tmp_path / "image.png").count("%") == 5
