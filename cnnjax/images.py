"""Decode image files to pixels, for training and prediction; ImageNet's statistics."""

import io

import numpy as np
from PIL import Image, UnidentifiedImageError

from cnnjax.errors import UserError

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of red, green, blue from 0 to 1
_DAMAGED = (OSError, SyntaxError, ValueError, NotImplementedError, Image.DecompressionBombError)


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


def decode(encoded: bytes, name: str) -> Image.Image:
    """Decode a picture to 8-bit colour, rotated according to its EXIF; `name` is for the error.

    16-bit grey is rounded to 256 levels; opacity is ignored. (torchvision clips such greys and rotates no
    picture.)

    Raises:
        UserError: it is damaged, of no known format, of more pixels than Pillow thinks safe, or its numbers
            have no range that is known (32-bit integers and floats).
    """
    try:
        with Image.open(io.BytesIO(encoded)) as image:
            image.load()  # which turns a TIFF, and takes its tag away
            return _upright(image, _colour(image))
    except _DAMAGED as error:
        unknown = isinstance(error, UnidentifiedImageError)
        reason = "no known format" if unknown else " ".join(str(error).split())
        raise UserError(
            f"{name} is no picture that can be read ({reason}): remove it or bring another"
        ) from None


def _colour(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM")):
        # 65535 = 255 * 257; Pillow itself would clip at 255.
        return Image.fromarray(np.rint(np.asarray(image) / 257).astype(np.uint8)).convert("RGB")
    if image.mode in ("I", "F"):
        raise ValueError("its pixels have 32 bits and no known range; save it with 8 or 16")
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")  # Pillow warns of the direct way
    return image.convert("RGB")


def _upright(image: Image.Image, pixels: Image.Image) -> Image.Image:
    try:
        turn = _UPRIGHT.get(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # a damaged tag says nothing of the pixels, and can raise anything
        return pixels
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
