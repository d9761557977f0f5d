"""Predictions of tiny networks beside numpy's, of arrays and of photographs; averages by their definition."""

import csv
import dataclasses
import json
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pyarrow.parquet as pq
import pytest
from flax import linen as nn
from PIL import Image

import cnnjax
from cnnjax.__main__ import main
from cnnjax.data import as_data, open_data
from cnnjax.errors import UserError
from cnnjax.evaluation import (
    Cropping,
    average,
    classify,
    crops_of,
    negative_log_likelihood,
    reestimate_averages,
    views,
    write_csv,
    write_parquet,
)
from cnnjax.evaluation.crops import picture_windows
from cnnjax.recipes import Objects, resolve
from cnnjax.training.inputs import example

DRAW = np.random.default_rng(0)
X, Y = DRAW.integers(0, 256, (45, 6, 6, 1), np.uint8), np.arange(45) % 3
DATA = X[:32], Y[:32], X[32:], Y[32:]
SYNTHETIC = dataclasses.replace(as_data(DATA), name="synthetic")
CONFIG = cnnjax.Config(augment="none", steps=2, batch_size=8, evaluate_every=2, checkpoint_every=1)


class Net(nn.Module):
    """Its answer depends on where a window lies, and it takes windows of every size."""

    input_shape = (14, 14, 3)

    @nn.compact
    def __call__(self, x):
        return 3 * nn.Dense(3)(nn.relu(nn.Conv(8, (3, 3))(x)).mean((1, 2)))


class Normalized(nn.Module):
    @nn.compact
    def __call__(self, x, train):
        x = nn.BatchNorm(not train, name="first")(x.reshape(len(x), -1))
        x = nn.Dense(3, name="dense")(x)
        return nn.BatchNorm(not train, name="second")(x)


def task_of(model, data=DATA, **changes):
    objects = Objects(model=model, data=data, optimizer=optax.sgd(0.1))
    task = resolve(dataclasses.replace(CONFIG, **changes), objects)
    raw, _ = example(task.data, 2, model)
    return task, task.init(jax.random.key(0), task.normalize(np.zeros(raw.shape, raw.dtype)))


@pytest.mark.parametrize(
    ("how", "padding"), [(Cropping(10), 4), (Cropping(10, side=4), 0), (Cropping(144), 0)]
)
def test_crops_are_numpys_mean_of_softmaxes(how, padding):
    task, variables = task_of(Net())
    found = classify(task, variables, how)
    crops = crops_of(task.normalize(X[32:]), how.crops, how.side or 6, padding)
    each = [jax.nn.softmax(Net().apply(variables, crop)) for crop in crops]
    np.testing.assert_allclose(found.probabilities, np.mean(each, 0), atol=1e-6)
    np.testing.assert_array_equal(found.labels, Y[32:])
    assert np.ptp(each, 0).max() > 1e-3
    assert found.class_names == ("0", "1", "2")


def test_several_scales_are_averaged_with_the_mirror_image():
    task, variables = task_of(Net())
    found = classify(task, variables, Cropping("dense", scales=(224, 299)))
    images = task.normalize(X[32:])
    larger = jax.image.resize(images, (13, 8, 8, 1), "bilinear")
    views = images, images[:, :, ::-1], larger, larger[:, :, ::-1]
    mean = np.mean([jax.nn.softmax(Net().apply(variables, view)) for view in views], 0)
    np.testing.assert_allclose(found.probabilities, mean, atol=1e-6)


def test_evaluate_takes_crops_by_name():
    task, variables = task_of(Net())
    objects = {"model": Net(), "data": DATA, "optimizer": optax.sgd(0.1), "metrics": ["top5_error"]}
    found = cnnjax.evaluate(CONFIG, variables, crops=10, **objects)
    scores = classify(task, variables, Cropping(10)).scores
    assert found["test_error"] == pytest.approx(scores["error"])
    assert found["test_loss"] == pytest.approx(scores["loss"])
    assert found["test_top5_error"] == 0
    plain = cnnjax.evaluate(CONFIG, variables, **objects)
    centre = classify(task, variables)
    assert plain["test_loss"] == pytest.approx(negative_log_likelihood(centre.probabilities, centre.labels))


def test_an_ensemble_is_numpys_mean(tmp_path):
    task, variables = task_of(Net())
    other = task.init(jax.random.key(1), task.normalize(X[:2]))
    members = [classify(task, variables), classify(task, other)]
    together = average(members)
    logits = [
        np.asarray(Net().apply(each, task.normalize(X[32:])), np.float64) for each in (variables, other)
    ]
    softmax = [np.exp(one) / np.exp(one).sum(1, keepdims=True) for one in logits]
    np.testing.assert_allclose(together.probabilities, np.mean(softmax, 0), atol=1e-6)
    write_csv(tmp_path / "said.csv", {"one": members[0], "mean": together})
    header, *lines = (tmp_path / "said.csv").read_text().splitlines()
    assert header.split(",")[:4] == ["member", "example", "label", "predicted"]
    assert len(lines) == 2 * 13
    assert lines[14].split(",")[:4] == ["mean", "1", str(Y[33]), str(together.predicted[1])]
    write_parquet(tmp_path / "said.parquet", {"one": members[0], "mean": together})
    rows = pq.read_table(tmp_path / "said.parquet").to_pylist()
    for row, line in zip(rows, csv.DictReader([header, *lines]), strict=True):
        assert {name: str(row[name]) for name in ("member", "example", "label", "predicted")} == {
            name: line[name] for name in ("member", "example", "label", "predicted")
        }
        assert row["confidence"] == pytest.approx(float(line["confidence"]), rel=1e-5)
        assert row["probability_of_label"] == row["probabilities"][int(row["label"])]
    both = [members[0].probabilities, together.probabilities]
    np.testing.assert_array_equal([row["probabilities"] for row in rows], np.float32(np.concatenate(both)))
    with pytest.raises(UserError, match="0 and 1 were tested on different examples"):
        average([members[0], dataclasses.replace(members[1], labels=Y[:13])])


def test_reestimated_averages_are_means_over_batches_of_the_training_set():
    """Each of four batches is normalised by its own mean and variance; the last 5 images are left out."""
    task, variables = task_of(Normalized(), (X[:37], Y[:37], X[37:], Y[37:]))
    new = reestimate_averages(task, variables)["batch_stats"]
    batches = np.asarray(task.normalize(X[:32]), np.float64).reshape(4, 8, -1)
    mean, variance = batches.mean(1, keepdims=True), batches.var(1, keepdims=True)
    dense = variables["params"]["dense"]
    after = (batches - mean) / np.sqrt(variance + 1e-5) @ dense["kernel"] + dense["bias"]
    for name, inputs in (("first", batches), ("second", after)):
        np.testing.assert_allclose(new[name]["mean"], inputs.mean(1).mean(0), atol=1e-5)
        np.testing.assert_allclose(new[name]["var"], inputs.var(1).mean(0), rtol=1e-4)
    np.testing.assert_array_equal(variables["batch_stats"]["second"]["var"], 1)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    root = tmp_path_factory.mktemp("pictures")
    for index, (part, kind, size) in enumerate(
        (part, kind, size)
        for part in ("train", "val")
        for kind in ("ant", "bee", "cow")
        for size in ((20, 31), (40, 18))
    ):
        (root / part / kind).mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(index).integers(0, 256, (*size, 3), np.uint8)
        Image.fromarray(pixels).save(root / part / kind / f"{size[0]}.png")
    return root


@pytest.mark.parametrize("how", [Cropping(10), Cropping("dense", scales=(300,))])
def test_photographs_of_any_size(pictures, how):
    task, variables = task_of(Net(), open_data(pictures), augment="crop_flip", batch_size=4)
    found = classify(task, variables, how)
    assert found.class_names == ("ant", "bee", "cow")
    np.testing.assert_array_equal(found.labels, [0, 0, 1, 1, 2, 2])
    for path, ours in zip(sorted((pictures / "val").rglob("*.png")), found.probabilities, strict=True):
        picture = Image.open(path)
        if how.crops == "dense":
            width, height = picture.size
            short = min(picture.size)
            box = round((width - short) / 2), round((height - short) / 2)
            picture = picture.crop((*box, box[0] + short, box[1] + short))
        wanted = views(how.crops, picture.height, picture.width, 14, how.scales or (256,))
        pixels = jnp.asarray(np.stack(picture_windows(picture, wanted)))
        theirs = jax.nn.softmax(Net().apply(variables, task.normalize(pixels))).mean(0)
        np.testing.assert_allclose(ours, theirs, atol=1e-6)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Cropping(9), "crops=9: must be one of 1, 5, 10, 144, 150, dense"),  # pyright: ignore
        (lambda: Cropping(side=0), "side=0: must be a number of pixels, at least 1"),
        (lambda: Cropping(scales=()), "scales=.*must be numbers of pixels"),
        (lambda: classify(*task_of(Net()), Cropping(10, side=7)), "6x6 is smaller than the window, 7x7"),
        (lambda: classify(*task_of(Net(), SYNTHETIC), Cropping("dense")), "a mirrored image of synthetic"),
        (lambda: reestimate_averages(*task_of(Net())), "has no BatchNorm"),
    ],
)
def test_what_cannot_be_is_one_line(call, message):
    with pytest.raises(UserError, match=message) as told:
        call()
    assert "\n" not in str(told.value)


FILE = """
from flax import linen as nn

class Net(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(10)(x[:, ::7, ::7].reshape(len(x), -1))
"""


def test_the_command(tmp_path, monkeypatch, capsys):
    def say(*words):
        monkeypatch.setattr(sys, "argv", ["cnnjax", "evaluate", *map(str, words)])
        main()
        return capsys.readouterr().out

    (tmp_path / "net.py").write_text(FILE)
    config = dataclasses.replace(CONFIG, model=f"{tmp_path}/net.py:Net", data="fashion_mini", batch_size=500)
    outs = [tmp_path / "one", tmp_path / "two"]
    cnnjax.train_many([config, dataclasses.replace(config, seed=1)], outs)
    capsys.readouterr()
    said = json.loads(say(*outs, "--ensemble", "--json"))
    names = [str(out) for out in outs]
    assert list(said["scores"]) == [*names, "mean of 2"]
    runs = [cnnjax.open_run(out) for out in outs]
    assert said["scores"][names[1]]["error"] == pytest.approx(runs[1].final["test_error"])
    mean = np.mean([run.predictions().probabilities for run in runs], 0)
    wrong = mean.argmax(1) != runs[0].predictions().labels
    assert said["scores"]["mean of 2"]["error"] == pytest.approx(wrong.mean())
    assert said["classes"]["names"][9] == "ankle boot"
    tables = say(outs[0], "--step", 1, 2, "--ensemble", "--per-class", "--csv", tmp_path / "said.csv")
    assert f"{names[0]} at 1" in tables
    assert "Two members say different classes" in tables
    assert "ankle boot" in tables
    assert len((tmp_path / "said.csv").read_text().splitlines()) == 1 + 3 * 2000
    say(outs[0], "--predictions", tmp_path / "said.parquet")
    assert pq.read_table(tmp_path / "said.parquet").num_rows == 2000
    with pytest.raises(SystemExit):
        say(outs[0], "--predictions", tmp_path / "none" / "said.parquet")
    assert "--predictions" in capsys.readouterr().err
