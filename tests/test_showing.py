"""Contact sheets: pixels in their places, and those that training sees."""

import sys

import jax
import numpy as np
import pytest
from PIL import Image

from cnnjax.__main__ import main
from cnnjax.config import Config
from cnnjax.data import load, open_stream
from cnnjax.data.batches import batch_indices
from cnnjax.data.pictures import centre
from cnnjax.data.rows import TrainingRows
from cnnjax.errors import UserError
from cnnjax.images import decode
from cnnjax.recipes import Objects, resolve
from cnnjax.report.sheet import contact_sheet
from cnnjax.showing import show
from cnnjax.training.step import at_step
from tests.data.odd_pictures import encode, picture


def cells(path, rows, columns, side):
    """[row, column, side, side, 3]: the pictures of a sheet, one pixel for each square of pixels."""
    sheet = np.asarray(Image.open(path))
    scale = -(-96 // side)
    shown = scale * side
    step = shown + 4
    left, top = sheet.shape[1] - columns * step, sheet.shape[0] - rows * step
    corners = [[(top + row * step, left + column * step) for column in range(columns)] for row in range(rows)]
    return np.array(
        [[sheet[y : y + shown : scale, x : x + shown : scale] for y, x in row] for row in corners]
    )


def test_pictures_lie_in_their_places(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (2, 3, 20, 20, 3), np.uint8)
    path = contact_sheet(pixels, ["a", "a longer name"], ["x", "y", "z"], tmp_path / "sheet.png")
    np.testing.assert_array_equal(cells(path, 2, 3, 20), pixels)


CONFIG = Config(
    model="lenet5_modern", data="fashion_mini", augment="crop_flip", cutout=4, batch_size=8, seed=3
)


def test_small_images_are_those_of_the_step(tmp_path):
    data = load("fashion_mini")
    found = cells(show(CONFIG, tmp_path / "sheet.png", step=5, images=3, versions=2, data=data), 3, 3, 28)
    batch = data.train_images[batch_indices(3, 5, 8, 12_000)]
    np.testing.assert_array_equal(found[:, 0, :, :, :1], batch[:3])
    task = resolve(CONFIG, Objects(data=data))
    for column, step in ((1, 5), (2, 6)):
        moment, _ = at_step(jax.random.key(3), step)
        inputs, _ = task.augment(moment, task.normalize(batch), np.zeros(8, np.int32))
        mean = data.train_images.astype(float).mean(0)
        expected = np.clip(255 * np.asarray(inputs)[:3] + mean, 0, 255)
        np.testing.assert_allclose(found[:, column, :, :, :1], expected, atol=0.51)


def test_photographs_are_those_of_the_step(tmp_path):
    for kind in ("ant", "bee"):
        (tmp_path / kind).mkdir()
        for number in range(4):
            (tmp_path / kind / f"{number}.png").write_bytes(encode(picture(number + 9 * len(kind)), "png"))
    config = Config(
        model="resnet8", data=str(tmp_path), augment="area_crop_flip", normalize="none", batch_size=4
    )
    data = open_stream(str(tmp_path))
    assert data.class_names == ("ant", "bee")
    found = cells(show(config, tmp_path / "sheet.png", step=1, images=2, versions=2, data=data), 2, 3, 32)
    read = TrainingRows(data.train, [0], 4, range(4), "area_crop_flip", 32)
    np.testing.assert_array_equal(found[:, 1], read(1)[0][0, 0, :2])
    index = batch_indices(0, 1, 4, 8)[0]
    whole = centre(decode(data.train[index][0], ""), 32)
    np.testing.assert_array_equal(found[0, 0], np.asarray(whole))


def test_whitened_images_are_shown(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (40, 8, 8, 1), np.uint8)
    labels = np.arange(40) % 2
    config = Config(model="resnet8", normalize="zca", augment="none", batch_size=8)
    path = show(config, tmp_path / "sheet.png", versions=1, images=2, data=(images, labels, images, labels))
    found = cells(path, 2, 2, 8)[:, 1]
    assert 120 < found.mean() < 136
    assert 35 < found.std() < 50  # 3 standard deviations are half of 255


def test_what_is_no_image(tmp_path):
    table = np.zeros((8, 5), np.float32), np.arange(8) % 2
    with pytest.raises(UserError, match="--show is for images of bytes"):
        show(Config(augment="none"), tmp_path / "sheet.png", data=(*table, *table))
    assert not (tmp_path / "sheet.png").exists()


def test_the_command(tmp_path, monkeypatch, capsys):
    out = tmp_path / "sheet.png"
    words = ["fashion_mini", "--show", "--settings", "augment=flip", "seed=1", "--out", str(out)]
    monkeypatch.setattr(sys, "argv", ["cnnjax", "data", *words])
    main()
    assert capsys.readouterr().out == f"{out}\n"
    assert out.exists()
    for flags, message in (
        (["--settings", "zoom=2"], "unknown field 'zoom'"),
        (["--step", "-1"], "--step -1: must not be negative"),
        (["--recipe", "nothing"], "no recipe is called 'nothing'"),
    ):
        monkeypatch.setattr(sys, "argv", ["cnnjax", "data", "fashion_mini", "--show", *flags])
        with pytest.raises(SystemExit):
            main()
        assert message in capsys.readouterr().err
    monkeypatch.setattr(sys, "argv", ["cnnjax", "data", "fashion_mini", "--step", "3"])
    with pytest.raises(SystemExit):
        main()
    assert "say what to --show: give that too" in capsys.readouterr().err
