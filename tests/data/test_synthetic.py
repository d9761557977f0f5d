import numpy as np
import pytest

from cnnjax.data import load
from cnnjax.data.synthetic import low_pass, synthetic
from cnnjax.errors import UserError


def test_it_is_the_same_every_time_and_another_for_another_seed():
    one, same, other = synthetic(64, 16), synthetic(64, 16), synthetic(64, 16, seed=1)
    np.testing.assert_array_equal(one.train_images, same.train_images)
    np.testing.assert_array_equal(one.test_labels, same.test_labels)
    assert not np.array_equal(one.train_images, other.train_images)


def test_shapes_and_balance():
    data = synthetic(train=60, test=30, size=8, classes=3)
    assert data.train_images.shape == (60, 8, 8, 3)
    assert data.test_images.shape == (30, 8, 8, 3)
    np.testing.assert_array_equal(np.bincount(data.train_labels), [20, 20, 20])
    default = load("synthetic")
    assert (default.train_images.shape, len(default.test_labels)) == ((2048, 16, 16, 3), 512)
    assert (default.classes, default.source) == (10, "generated, seed 0")


def test_the_size_of_one_split_does_not_change_the_other():
    np.testing.assert_array_equal(synthetic(64, 16).test_images, synthetic(32, 16).test_images)


def test_it_can_be_learned_but_not_by_a_linear_classifier():
    data = synthetic()
    train, test = (images.reshape(len(images), -1) / 255 for images in (data.train_images, data.test_images))
    distance = (test**2).sum(axis=1)[:, None] + (train**2).sum(axis=1) - 2 * test @ train.T
    assert (data.train_labels[distance.argmin(axis=1)] == data.test_labels).mean() > 0.9
    train, test = train - train.mean(axis=0), test - train.mean(axis=0)
    ridge = np.linalg.solve(train.T @ train + np.eye(train.shape[1]), train.T @ np.eye(10)[data.train_labels])
    assert 0.15 < ((test @ ridge).argmax(axis=1) == data.test_labels).mean() < 0.6


def test_low_pass_images_are_smooth_and_alike_in_nothing():
    data = load("low_pass")
    np.testing.assert_array_equal(data.train_images, low_pass().train_images)
    assert (data.train_images.shape, len(data.test_labels)) == ((2048, 16, 16, 3), 512)
    np.testing.assert_array_equal(np.bincount(data.test_labels), [52, 52] + 8 * [51])
    images = (data.train_images - 128.0) / 32
    power = np.square(np.abs(np.fft.fft2(images, axes=(1, 2)))).sum((0, 3))
    frequency = np.fft.fftfreq(16, 1 / 16)
    low = np.hypot(frequency[:, None], frequency) <= 2
    assert power[low].sum() / power.sum() > 0.999  # but for the rounding to grey levels
    cosines = np.corrcoef(images.reshape(2048, -1))[~np.eye(2048, dtype=bool)]
    assert abs(cosines.mean()) < 1e-3
    assert cosines.std() == pytest.approx((3 * (low.sum() - 1)) ** -0.5, rel=0.1)


def test_impossible_arguments():
    for bad in ({"train": 0}, {"test": 0}, {"classes": 0}, {"size": 5}):
        with pytest.raises(UserError, match=r"synthetic: .* at least"):
            synthetic(**bad)
        with pytest.raises(UserError, match=r"low_pass: .* at least"):
            low_pass(**bad)
