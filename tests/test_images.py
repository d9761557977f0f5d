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


def ramp(kind, scale=1):
    """Numbers over the whole of 16 bits."""
    return ((np.arange(1600) * 65535 // 1599).reshape(40, 40) * scale).astype(kind)


@pytest.mark.parametrize("form", ["png", "tiff", "ppm"])
def test_16_bits_of_grey_become_the_nearest_of_256_levels(form):
    file = io.BytesIO()
    Image.fromarray(ramp(np.uint16)).save(file, format=form)
    expected = np.floor(ramp(float) / 257 + 0.5)
    for colour in np.moveaxis(np.asarray(decode(file.getvalue(), "it")), 2, 0):
        np.testing.assert_array_equal(colour, expected)


def test_grey_of_10_bits_goes_to_white():
    encoded = b"P5 2 1 1023\n" + (1023).to_bytes(2, "big") + (512).to_bytes(2, "big")
    np.testing.assert_array_equal(np.asarray(decode(encoded, "it"))[0, :, 0], [255, 128])


@pytest.mark.parametrize("kind", [np.int32, np.float32])
def test_numbers_without_a_range_are_refused(kind):
    file = io.BytesIO()
    Image.fromarray(ramp(kind, 1 / 65535)).save(file, format="tiff")
    refused(file.getvalue(), "its pixels have 32 bits and no known range; save it with 8 or 16")


def test_opacity_is_left_out():
    palette = PICTURE.quantize(16)
    file = io.BytesIO()
    palette.save(file, format="png", transparency=bytes(range(0, 256, 16)))
    np.testing.assert_array_equal(
        np.asarray(decode(file.getvalue(), "it")), np.asarray(palette.convert("RGB"))
    )
    clear = PICTURE.copy()
    clear.putalpha(Image.new("L", PICTURE.size, 7))
    file = io.BytesIO()
    clear.save(file, format="png")
    np.testing.assert_array_equal(np.asarray(decode(file.getvalue(), "it")), np.asarray(PICTURE))


CORNER = np.zeros((48, 64, 3), np.uint8)  # its first quarter is white, the left one below it grey
CORNER[:24, :32], CORNER[24:, :32] = 255, 128
UPRIGHT = {  # what a viewer shows, by EXIF's table of where row 0 and column 0 belong
    1: CORNER,
    2: CORNER[:, ::-1],
    3: CORNER[::-1, ::-1],
    4: CORNER[::-1],
    5: CORNER.transpose(1, 0, 2),
    6: CORNER.transpose(1, 0, 2)[:, ::-1],
    7: CORNER.transpose(1, 0, 2)[::-1, ::-1],
    8: CORNER.transpose(1, 0, 2)[::-1],
    9: CORNER,  # there is no such value
}


@pytest.mark.parametrize("form", ["jpeg", "png", "webp", "tiff"])
@pytest.mark.parametrize("orientation", UPRIGHT)
def test_a_picture_is_upright(form, orientation):
    image, file = Image.fromarray(CORNER), io.BytesIO()
    exif = image.getexif()
    exif[0x0112] = orientation
    lossless = {"lossless": True} if form == "webp" else {}
    image.save(file, format=form, exif=exif, **lossless)
    found = np.asarray(decode(file.getvalue(), "it")).astype(int)
    expected = UPRIGHT[orientation]
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, atol=3)


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's, of the damage
@pytest.mark.parametrize("keep", [0, 3, 8, 12, 20])
def test_damaged_exif_does_not_spoil_a_picture(keep):
    image, file = Image.fromarray(CORNER), io.BytesIO()
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(file, format="jpeg", exif=b"Exif\0\0" + exif.tobytes()[6:][:keep], quality=95)
    np.testing.assert_allclose(np.asarray(decode(file.getvalue(), "it")).astype(int), CORNER, atol=3)


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


def test_a_jpeg_whose_rest_is_zeros_is_refused():
    """libjpeg makes grey of it, and only warns; a download that broke off may leave it."""
    whole = encoded("jpeg")
    cut = len(whole) * 7 // 10
    zeros = whole[:cut] + bytes(len(whole) - cut)
    refused(zeros, "image file is truncated: it has no end")
    thumbnail = b"\xff\xe1\x00\x08\xff\xd8\xff\xd9\xff\xda"  # a header that holds an end of its own
    refused(zeros[:2] + thumbnail + zeros[2:], "image file is truncated: it has no end")
    pixels = np.asarray(decode(whole, "it"))
    for same in (
        whole + b"\xff\xda more",
        whole[:2] + thumbnail + whole[2:],
        whole[:2] + b"\xff" + whole[2:],
    ):
        np.testing.assert_array_equal(np.asarray(decode(same, "it")), pixels)


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
