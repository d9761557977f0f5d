"""A contact sheet: rows of small pictures with names, as a PNG."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from cnnjax.files import replacing

_GAP, _TEXT = 4, 14  # pixels between pictures; height of the text
_SIDE = 96  # pixels of a picture, at least


def contact_sheet(
    pictures: Sequence[Sequence[np.ndarray]], rows: Sequence[str], columns: Sequence[str], path: Path
) -> Path:
    """Write pictures, uint8 [height, width, channel] each, as a table with a name for each row and column.

    Small ones are enlarged by a whole factor, so that every pixel is a square. Returns `path`.
    """
    height, width = (max(picture.shape[axis] for row in pictures for picture in row) for axis in (0, 1))
    scale = max(1, -(-_SIDE // max(height, width)))
    font = ImageFont.load_default(_TEXT)
    left = round(max(font.getlength(name) for name in rows)) + 2 * _GAP
    across, down = scale * width + _GAP, scale * height + _GAP
    top = _TEXT + 2 * _GAP
    sheet = Image.new("RGB", (left + across * len(columns), top + down * len(rows)), "white")
    draw = ImageDraw.Draw(sheet)
    for column, name in enumerate(columns):
        draw.text((left + across * column, _GAP), name, "black", font)
    for row, name in enumerate(rows):
        draw.text((_GAP, top + down * row + (down - _TEXT) // 2), name, "black", font)
        for column, picture in enumerate(pictures[row]):
            sheet.paste(_enlarged(picture, scale), (left + across * column, top + down * row))
    with replacing(path, "wb") as file:
        sheet.save(file, format="png")
    return path


def _enlarged(picture: np.ndarray, scale: int) -> Image.Image:
    colour = np.broadcast_to(picture, (*picture.shape[:2], 3)) if picture.shape[-1] == 1 else picture[..., :3]
    return Image.fromarray(np.ascontiguousarray(colour).repeat(scale, 0).repeat(scale, 1))
