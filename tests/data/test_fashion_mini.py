import zipfile
from pathlib import Path

import numpy as np
import pytest

from cnnjax.data import fashion_mini, find, load, sources
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


@pytest.mark.skipif(not FULL.exists(), reason="Debian's package dataset-fashion-mnist is not installed")
def test_drawn_again_from_fashion_mnist_it_is_the_same(cache):
    drawn, embedded = make.draw(load("fashion_mnist", FULL)), load("fashion_mini")
    assert len(drawn) == 4
    for name, array in drawn.items():
        np.testing.assert_array_equal(array, getattr(embedded, name), strict=True)
