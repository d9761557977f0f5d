"""Image files to pixels, as training and prediction both need them, and ImageNet's statistics."""

import io

from PIL import Image, UnidentifiedImageError

from cnnjax.errors import UserError

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of red, green, blue from 0 to 1
_DAMAGED = (OSError, SyntaxError, ValueError, NotImplementedError, Image.DecompressionBombError)


def decode(encoded: bytes, name: str) -> Image.Image:
    """The picture in colour; `name` is for the error.

    Raises:
        UserError: it is damaged, of no known format, or of more pixels than Pillow thinks safe.
    """
    try:
        with Image.open(io.BytesIO(encoded)) as image:
            return image.convert("RGB")
    except _DAMAGED as error:
        unknown = isinstance(error, UnidentifiedImageError)
        reason = "no known format" if unknown else " ".join(str(error).split())
        raise UserError(
            f"{name} is no picture that can be read ({reason}): remove it or bring another"
        ) from None


def centre_square(image: Image.Image, shorter: int, side: int) -> Image.Image:
    """The central square once the shorter side is `shorter`, to the pixel as torchvision has it."""
    width, height = (int(shorter * length / min(image.size)) for length in image.size)
    left, top = round((width - side) / 2), round((height - side) / 2)
    resized = image.resize((width, height), Image.Resampling.BILINEAR)
    return resized.crop((left, top, left + side, top + side))
