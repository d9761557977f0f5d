import io

import numpy as np
import pytest
from PIL import Image

from cnnjax.errors import UserError
from cnnjax.images import centre_square, decode

PICTURE = Image.fromarray(np.random.default_rng(0).integers(256, size=(160, 240, 3)).astype(np.uint8))


def encoded(form, mode="RGB"):
    file = io.BytesIO()
    PICTURE.convert(mode).save(file, format=form)
    return file.getvalue()


@pytest.mark.parametrize("mode", ["L", "P", "CMYK", "RGBA", "1"])
def test_any_picture_becomes_colour(mode):
    assert decode(encoded("jpeg" if mode in ("L", "CMYK") else "png", mode), "it").mode == "RGB"


def refused(damaged, reason):
    with pytest.raises(
        UserError, match=rf"^a/b is no picture that can be read \({reason}\): remove it or"
    ) as told:
        decode(damaged, "a/b")
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("form", ["jpeg", "png", "webp", "bmp", "ppm", "tiff"])
def test_a_picture_that_is_cut_short_is_one_line(form):
    refused(encoded(form)[:500], ".+")
    refused(encoded(form)[:1], "no known format")


def test_a_picture_too_large_or_in_a_form_that_is_not_read_is_one_line(monkeypatch):
    refused(b"DDS " + (124).to_bytes(4, "little") + bytes(120), ".*pixel format.*")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    refused(encoded("png"), ".*38400 pixels.*decompression bomb.*")


@pytest.mark.parametrize(
    ("size", "resized", "corner"),
    [((240, 160), (96, 64), (20, 4)), ((101, 173), (64, 109), (4, 26)), ((30, 50), (64, 106), (4, 25))],
)
def test_the_central_square_by_hand(size, resized, corner):
    """Sides are cut to whole pixels, and a corner at half a pixel goes to the even one, as in torchvision."""
    image = PICTURE.resize(size)
    left, top = corner
    pixels = np.asarray(image.resize(resized, Image.Resampling.BILINEAR))[top : top + 56, left : left + 56]
    np.testing.assert_array_equal(np.asarray(centre_square(image, 64, 56)), pixels)
