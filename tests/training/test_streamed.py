"""Training on photographs from a folder: the same loop, other input."""

import dataclasses
import os
import signal

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import tyro
from PIL import Image

import cnnjax
from cnnjax.__main__ import Verb
from cnnjax.data.pictures import centre
from cnnjax.errors import Interrupted, UserError
from cnnjax.files import read_jsonl
from cnnjax.images import decode

CONFIG = cnnjax.Config(
    model="resnet8",
    model_options={"width": 2},
    steps=4,
    batch_size=4,
    augment="scale_crop_flip",
    normalize="channel",
    learning_rate=0.05,
    schedule="constant",
    evaluate_every=4,
    checkpoint_every=4,
)


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    root, rng = tmp_path_factory.mktemp("photographs"), np.random.default_rng(0)
    for split, count in (("train", 3), ("val", 2)):
        for kind in ("ant", "bee", "cat"):
            (root / split / kind).mkdir(parents=True)
            for number in range(count):
                pixels = rng.integers(0, 256, (5, 6, 3), np.uint8)
                Image.fromarray(pixels).resize((48, 40)).save(root / split / kind / f"{number}.jpg")
    return dataclasses.replace(CONFIG, data=str(root))


@pytest.fixture(scope="module")
def uninterrupted(config, tmp_path_factory):
    return cnnjax.train(config, tmp_path_factory.mktemp("run"))


def test_a_run_that_was_stopped_ends_with_the_same_bits(config, uninterrupted, tmp_path):
    class Stopping(cnnjax.Callback):
        def on_step(self, step, metrics):
            if step == 1:
                os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Interrupted, match="stopped at step"):
        cnnjax.train(config, tmp_path, callbacks=[Stopping()])
    said = []
    result = cnnjax.train(config, tmp_path, say=said.append)
    assert any("goes on from step" in line for line in said)
    jax.tree.map(np.testing.assert_array_equal, result.variables, uninterrupted.variables)
    for ours, theirs in zip(*map(numbers, (result, uninterrupted)), strict=True):
        assert ours == theirs


def numbers(result):
    return [{**line, "time": 0} for line in read_jsonl(result.out / "metrics.jsonl")]


def test_every_test_picture_counts_once(config, uninterrupted):
    """6 pictures in batches of 4."""
    data = cnnjax.data.open_data(config.data)
    records = [data.test[index] for index in range(6)]
    pixels = np.stack([np.asarray(centre(decode(encoded, "it"), 32)) for encoded, _ in records])
    labels = jnp.array([label for _, label in records])
    mean, deviation = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    images = jnp.asarray((pixels / 255 - mean) / deviation, jnp.float32)
    model = cnnjax.build("resnet8", width=2, num_classes=3)
    logits = model.apply(uninterrupted.variables, images, train=False)
    assert uninterrupted.metrics["test_error"] == np.mean(logits.argmax(-1) != labels)
    loss = optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()
    np.testing.assert_allclose(uninterrupted.metrics["test_loss"], loss, rtol=1e-5)


def test_the_command(config, uninterrupted, capsys):
    """On a run that is finished already."""
    fields = [
        f"--{name.replace('_', '-')}={getattr(config, name)}" for name in ("data", "steps", "batch_size")
    ]
    fields += ["--model=resnet8", "--augment=scale_crop_flip", "--normalize=channel", "--learning-rate=0.05"]
    fields += ["--schedule=constant", "--evaluate-every=4", "--checkpoint-every=4", "--options", "width=2"]
    tyro.cli(Verb, args=["train", f"--out={uninterrupted.out}", *fields]).run()
    assert f"test_error {uninterrupted.metrics['test_error']:.4f}" in capsys.readouterr().out


def test_what_does_not_fit_is_one_line(config, tmp_path):
    def refused(message, **fields):
        with pytest.raises(UserError, match=message):
            cnnjax.train(dataclasses.replace(config, **fields), tmp_path / message[:5])

    refused("LeNet5Modern takes images of 32x32x1", model="lenet5_modern", model_options={})
    refused("augment='reflect_crop_flip' is for small images", augment="reflect_crop_flip")
    refused("leave out downsample", downsample=2)


def test_a_process_reads_what_its_devices_hold():
    from cnnjax.mesh import make_mesh, over_seeds_and_data, share

    assert share(over_seeds_and_data(make_mesh(data=1)), (2, 1, 8)) == (range(2), range(1), range(8))
