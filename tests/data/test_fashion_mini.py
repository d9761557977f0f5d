import zipfile
from pathlib import Path

import numpy as np
import pytest

from cnnjax.data import Dataset, fashion_mini, find, load, sources
from cnnjax.data.fashion_mini import make

FULL = sources._SYSTEM_FOLDERS["fashion_mnist"]
FOLDER = Path(fashion_mini.__file__).parent


def test_it_is_part_of_the_program(cache):
    data = load("fashion_mini")
    assert (data.train_images.shape, data.test_images.shape) == ((12_000, 28, 28, 1), (2_000, 28, 28, 1))
    np.testing.assert_array_equal(np.bincount(data.train_labels), [1200] * 10)
    np.testing.assert_array_equal(np.bincount(data.test_labels), [200] * 10)
    assert data.source == "embedded"
    assert find("fashion_mini") == "part of cnnjax"
    assert not cache.exists()


def test_it_is_small_and_carries_its_licence():
    assert sum(file.stat().st_size for file in FOLDER.iterdir() if file.is_file()) < 8_000_000
    licence = (FOLDER / "LICENSE").read_text()
    assert "2017 Zalando SE" in licence
    assert "Permission is hereby granted, free of charge" in licence


def test_the_time_of_day_is_not_in_the_file(tmp_path):
    arrays = {"train_images": load("fashion_mini").train_images[:100], "labels": np.arange(3)}
    make.write(arrays, tmp_path / "written")
    with np.load(tmp_path / "written") as written:
        for name, array in arrays.items():
            np.testing.assert_array_equal(written[name], array, strict=True)
    for file in (tmp_path / "written", FOLDER / "images.npz"):
        with zipfile.ZipFile(file) as archive:
            assert {entry.date_time for entry in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}


def test_as_many_of_each_class_in_the_order_they_had():
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(10, dtype=np.int32), 1300))
    images = np.arange(13_000, dtype=np.uint32).view(np.uint8).reshape(-1, 2, 2, 1)
    drawn = make.draw(Dataset("full", images, labels, images, labels, 10, "here"))
    for split, count in (("train", 1200), ("test", 200)):
        places = drawn[f"{split}_images"].reshape(-1, 4).copy().view(np.uint32)[:, 0]
        assert (np.diff(places.astype(int)) > 0).all()
        np.testing.assert_array_equal(drawn[f"{split}_labels"], labels[places])
        np.testing.assert_array_equal(np.bincount(labels[places]), [count] * 10)


@pytest.mark.skipif(not FULL.exists(), reason="Debian's package dataset-fashion-mnist is not installed")
def test_drawn_again_from_fashion_mnist_it_is_the_same(cache):
    drawn, embedded = make.draw(load("fashion_mnist", FULL)), load("fashion_mini")
    assert len(drawn) == 4
    for name, array in drawn.items():
        np.testing.assert_array_equal(array, getattr(embedded, name), strict=True)
