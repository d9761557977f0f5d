"""Global contrast normalisation and ZCA, against closed forms and scikit-learn; a run keeps its whitening."""

import dataclasses

import jax
import numpy as np
import pytest
from flax import linen as nn
from sklearn.decomposition import PCA

import cnnjax
from cnnjax.data.augment import normalizer
from cnnjax.data.whiten import BIAS, Whitening, fit_whitening
from cnnjax.errors import UserError
from cnnjax.recipes import Objects, resolve
from cnnjax.training import record

DRAW = np.random.default_rng(0)
SMOOTH = DRAW.integers(0, 256, (600, 4, 4, 3)) + DRAW.integers(0, 128, (600, 1, 4, 3))
TRAIN = (SMOOTH * 255 // SMOOTH.max()).astype(np.uint8)


def contrast(images):
    rows = images.reshape(len(images), -1).astype(float)
    rows -= rows.mean(1, keepdims=True)
    return 55 * rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_contrast():
    found = np.asarray(jax.jit(normalizer(TRAIN, "gcn"))(TRAIN[:50])).reshape(50, -1)
    np.testing.assert_allclose(found, contrast(TRAIN[:50]), rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(normalizer(TRAIN, "gcn")(np.full((1, 4, 4, 3), 9, np.uint8)), 0)


def test_whitening_is_that_of_scikit_learns_components():
    rows = contrast(TRAIN)
    pca = PCA(svd_solver="full").fit(rows)
    variances = pca.explained_variance_ * (len(rows) - 1) / len(rows)
    scores = pca.transform(rows) / np.sqrt(variances + BIAS)
    expected = scores @ pca.components_
    found = normalizer(TRAIN, "zca", np.float32)(TRAIN)
    np.testing.assert_allclose(np.asarray(found).reshape(600, -1), expected, rtol=1e-3, atol=1e-3)


def test_whitened_images_have_the_identity_for_covariance_where_it_is_above_the_bias():
    white = fit_whitening(TRAIN)
    rows = (contrast(TRAIN) - white.mean) @ white.matrix
    values = np.linalg.eigvalsh(np.cov(rows.T, bias=True))
    variances = np.linalg.eigvalsh(np.cov(contrast(TRAIN).T, bias=True))
    np.testing.assert_allclose(values, variances / (variances + BIAS), atol=1e-9)
    np.testing.assert_allclose(white.matrix, white.matrix.T, atol=1e-12)


def test_what_cannot_be_whitened():
    with pytest.raises(UserError, match="images of 12,288 numbers take a matrix"):
        fit_whitening(np.zeros((2, 64, 64, 3), np.uint8))
    for field in ("colour", "photometry"):
        config = cnnjax.Config(normalize="zca", **{field: 0.1})
        with pytest.raises(
            UserError, match=f"{field}: changes colours, of which normalize='zca' leaves none"
        ):
            resolve(config, Objects(model=Linear(), data=DATA))


class Linear(nn.Module):
    @nn.compact
    def __call__(self, x, train):
        return nn.Dense(3)(x.reshape(len(x), -1) / 5)


LABELS = np.arange(600, dtype=np.int32) % 3
DATA = TRAIN[:500], LABELS[:500], TRAIN[500:], LABELS[500:]
CONFIG = cnnjax.Config(
    normalize="zca", augment="crop_flip", cutout=2, steps=4, batch_size=8, learning_rate=0.01,
    schedule="constant", evaluate_every=2, checkpoint_every=2,
)  # fmt: skip


def test_a_run_keeps_its_whitening(tmp_path, monkeypatch):
    out = tmp_path / "run"
    short = dataclasses.replace(CONFIG, steps=2)
    cnnjax.train(short, out, model=Linear(), data=DATA)
    kept = record.read_whitening(out)
    assert kept is not None
    np.testing.assert_array_equal(kept.matrix, fit_whitening(TRAIN[:500]).matrix)
    whole = cnnjax.train(CONFIG, tmp_path / "whole", model=Linear(), data=DATA)

    def never(images):
        raise AssertionError("fitted again")

    monkeypatch.setattr("cnnjax.preprocessing.fit_whitening", never)
    longer = cnnjax.train(CONFIG, out, model=Linear(), data=DATA)
    assert longer.metrics == whole.metrics
    run = cnnjax.open_run(out, model=Linear(), data=DATA)
    assert run.evaluate()["test_loss"] == longer.metrics["test_loss"]
    # Other data is whitened as the training data was.
    np.testing.assert_array_equal(run.task.whitening.matrix, kept.matrix)
    (out / record.WHITENING).write_bytes(b"PK")
    with pytest.raises(UserError, match=r"whitening\.npz is damaged"):
        record.read_whitening(out)
    record.write_arrays(out / record.WHITENING, {"mean": np.zeros(3)})
    with pytest.raises(UserError, match=r"whitening\.npz is damaged: move it away"):
        record.read_whitening(out)


def test_no_file_without_whitening(tmp_path):
    assert record.read_whitening(tmp_path) is None
    record.write_whitening(tmp_path, Whitening(np.zeros(2), np.eye(2)))
    record.write_whitening(
        tmp_path, Whitening(np.ones(2), np.eye(2))
    )  # the run has it: nothing is overwritten
    np.testing.assert_array_equal(record.read_whitening(tmp_path).mean, [0, 0])
