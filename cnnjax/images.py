"""Decode image files to pixels, for training and prediction; ImageNet's statistics."""

import io

import numpy as np
from PIL import Image, UnidentifiedImageError

from cnnjax.errors import UserError

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of red, green, blue from 0 to 1
_DAMAGED = (OSError, SyntaxError, ValueError, NotImplementedError, Image.DecompressionBombError)
_BITS, _PHOTOMETRIC = 258, 262  # TIFF's tags
_ORIENTATION = 0x0112  # EXIF's tag, and how to turn the pixels for each of its values
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class BadPicture(UserError):
    """A picture that cannot be used: its `kind`, in a word or two, and the `reason`."""

    kind, reason = "damaged", ""

    @classmethod
    def of(cls, name: str, kind: str, reason: str) -> "BadPicture":
        """The error that tells of the picture `name`."""
        told = cls(f"{name} is no picture that can be read ({reason}): remove it or bring another")
        told.kind, told.reason = kind, reason
        return told


def decode(encoded: bytes, name: str) -> Image.Image:
    """Decode a picture to 8-bit colour, rotated according to its EXIF; `name` is for the error.

    16-bit grey is rounded to 256 levels, and of 16-bit colours Pillow takes the high byte; opacity and colour
    profiles are ignored; of several frames the first is taken. (torchvision clips such greys and rotates no
    picture.)

    Raises:
        BadPicture: it is damaged, of no known format, of more pixels than Pillow thinks safe, or its numbers
            have no range that is known (32-bit integers and floats).
    """
    try:
        with Image.open(io.BytesIO(encoded)) as image:
            image.load()  # which turns a TIFF, and takes its tag away
            if image.format in ("JPEG", "MPO") and not _has_end(encoded):
                raise OSError("image file is truncated: it has no end")
            return _upright(image, _colour(image))
    except _DAMAGED as error:
        raise BadPicture.of(name, *_what_is_wrong(encoded, error)) from None


def _what_is_wrong(encoded: bytes, error: Exception) -> tuple[str, str]:
    """The kind of a picture that cannot be used, and the reason in one line."""
    if not encoded:
        return "empty", "no bytes"
    if isinstance(error, UnidentifiedImageError):
        return "no picture", "no known format"
    reason = " ".join(str(error).split())
    if isinstance(error, Image.DecompressionBombError):
        return "too large", reason
    return ("32-bit" if isinstance(error, _NoRange) else BadPicture.kind), reason


class _NoRange(ValueError):
    pass


def _has_end(jpeg: bytes) -> bool:
    """Whether a JPEG's end follows its pixels; libjpeg makes grey of what a broken download left as zeros."""
    place = 2
    while jpeg[place : place + 1] == b"\xff" and jpeg[place + 1 : place + 2] not in (b"\xda", b""):
        # Fill bytes and a header: its marker and its length, which does not count the marker.
        place += 1 if jpeg[place + 1] == 0xFF else 2 + int.from_bytes(jpeg[place + 2 : place + 4], "big")
    return jpeg.find(b"\xff\xd9", place) >= 0


def _colour(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM")):
        return Image.fromarray(_bytes(image)).convert("RGB")  # Pillow itself would clip at 255
    if image.mode in ("I", "F"):
        raise _NoRange("its pixels have 32 bits and no known range; save it with 8 or 16")
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")  # Pillow warns of the direct way
    return image.convert("RGB")


def _bytes(image: Image.Image) -> np.ndarray:
    """Grey of 16 bits as the nearest of 256 levels."""
    tags = getattr(image, "tag_v2", {})  # a TIFF's, which Pillow heeds for 8 bits only
    bits, zero_is_white = tags.get(_BITS, (16,))[0], tags.get(_PHOTOMETRIC) == 0
    levels = np.rint(np.asarray(image) / ((2**bits - 1) / 255)).astype(np.uint8)
    return 255 - levels if zero_is_white else levels


def turn_of(image: Image.Image) -> Image.Transpose | None:
    """How to turn a picture's pixels so that it is upright; None if it is, or if its EXIF is damaged."""
    try:
        return _UPRIGHT.get(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # a damaged tag says nothing of the pixels, and can raise anything
        return None


def _upright(image: Image.Image, pixels: Image.Image) -> Image.Image:
    turn = turn_of(image)
    return pixels if turn is None else pixels.transpose(turn)


def centre_square(
    image: Image.Image,
    shorter: int,
    side: int,
    interpolation: Image.Resampling = Image.Resampling.BILINEAR,
) -> Image.Image:
    """The central square after resizing the shorter side to `shorter`, to the pixel as in torchvision."""
    width, height = (int(shorter * length / min(image.size)) for length in image.size)
    left, top = round((width - side) / 2), round((height - side) / 2)
    resized = image.resize((width, height), interpolation)
    return resized.crop((left, top, left + side, top + side))
