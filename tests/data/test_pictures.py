from typing import ClassVar

import numpy as np
import pytest
from PIL import Image

from cnnjax.data.pictures import CROPS, area_crop, centre, crop, scale_crop
from cnnjax.images import centre_square
from cnnjax.interop import Preprocessing, preprocess

WIDTH, HEIGHT, SIDE = 240, 160, 56  # 56 is a quarter of 224: shorter sides of 64, and 64 to 120


def ramp(width=WIDTH, height=HEIGHT):
    """A picture whose red is the column and whose green is the row."""
    rows, columns = np.mgrid[:height, :width]
    return Image.fromarray(np.stack([columns, rows, 0 * rows], -1).astype(np.uint8))


def windows(crop, draws=200):
    """[draw, 4]: left, top, width and height of each window, read off the ramp's inner pixels."""
    found = []
    for draw in range(draws):
        pixels = np.asarray(crop(ramp(), SIDE, np.random.default_rng(draw))).astype(float)
        assert pixels.shape == (SIDE, SIDE, 3)
        slopes = [(pixels[..., 0][:, -9] - pixels[..., 0][:, 8]).mean() / (SIDE - 17)]
        slopes += [(pixels[..., 1][-9] - pixels[..., 1][8]).mean() / (SIDE - 17)]
        centres = pixels[..., 0].mean() + 0.5, pixels[..., 1].mean() + 0.5
        sizes = [SIDE * slope for slope in slopes]
        found.append([centre - size / 2 for centre, size in zip(centres, sizes, strict=True)] + sizes)
    return np.array(found)


@pytest.mark.parametrize("size", [(WIDTH, HEIGHT), (101, 173), (500, 375), (64, 64), (30, 50)])
def test_the_centre_is_that_of_prediction(size):
    image = ramp(*size)
    expected = preprocess(image, Preprocessing(64, SIDE, mean=(0, 0, 0), std=(1, 1, 1)))
    np.testing.assert_array_equal(np.asarray(centre(image, SIDE)), np.rint(255 * expected))


def test_sides_at_224_pixels_are_the_papers():
    image = ramp(400, 300)
    np.testing.assert_array_equal(np.asarray(centre(image, 224)), np.asarray(centre_square(image, 256, 224)))

    class Largest:
        """A generator whose every number is the largest."""

        asked: ClassVar[list] = []

        def integers(self, *bounds, endpoint=False):
            self.asked.append(bounds)
            return bounds[-1] - (not endpoint)

    scale_crop(ramp(480, 480), 224, Largest())
    assert Largest.asked == [(256, 480), (480 - 224 + 1,), (480 - 224 + 1,)]


def test_a_crop_is_a_window_of_one_scale_anywhere():
    left, top, width, height = windows(crop).T
    scale = HEIGHT / 64
    np.testing.assert_allclose(width, scale * SIDE, atol=3)
    np.testing.assert_allclose(height, scale * SIDE, atol=3)
    assert left.min() < 3 * scale
    assert WIDTH - 3 * scale < (left + width).max() < WIDTH + 3
    assert len(set(np.rint(top / scale))) == 64 - SIDE + 1


def test_a_scale_crop_has_scales_from_256_to_480():
    left, top, width, height = windows(scale_crop).T
    shorter = HEIGHT * SIDE / height
    assert 62 < shorter.min() < 67
    assert 115 < shorter.max() < 123
    np.testing.assert_allclose(width, height, atol=4)
    assert (left + width).max() > WIDTH - 6
    assert top.min() < 4


def test_an_area_crop_has_areas_and_aspects_of_the_paper():
    _, _, width, height = windows(area_crop).T
    area, aspect = width * height / (WIDTH * HEIGHT), width / height
    assert 0.07 < area.min() < 0.13
    assert 0.8 < area.max() < 0.9  # 4/3 of a picture of 3/2 is 8/9 of it
    assert 0.4 < np.median(area) < 0.54  # larger ones fit less often
    assert 0.7 < aspect.min() < 0.8
    assert 1.25 < aspect.max() < 1.4
    strip = ramp(240, 20)  # no window fits: the central one of aspect 4/3
    pixels = np.asarray(area_crop(strip, SIDE, np.random.default_rng(0)))
    assert abs(pixels[..., 0].mean() + 0.5 - 120) < 2
    assert 24 < pixels[:, -1, 0].mean() - pixels[:, 0, 0].mean() < 28
    drawn, other = np.random.default_rng(0), np.random.default_rng(0)
    pixels = np.asarray(area_crop(ramp(20, 240), SIDE, drawn))  # and upright
    assert abs(pixels[..., 1].mean() + 0.5 - 120) < 2
    other.random(20)  # an area and an aspect, ten times
    assert drawn.random() == other.random()


@pytest.mark.parametrize("name", [name for name in CROPS if "flip" in name])
def test_half_are_mirrored(name):
    mirrored = [
        np.asarray(CROPS[name](ramp(), SIDE, np.random.default_rng(draw)))[:, [0, -1], 0].astype(int)
        for draw in range(100)
    ]
    assert 35 < sum((ends[:, 0] > ends[:, 1]).all() for ends in mirrored) < 65
