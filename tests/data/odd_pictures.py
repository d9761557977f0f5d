"""A folder of 1,000 tiny pictures as people have them: 40 of them are odd, of 20 kinds."""

import io
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

SIDE = 12
CLASSES = ("cat", "dog")
COUNT = 1000


def picture(number: int) -> Image.Image:
    """A smooth picture that differs from all others."""
    rows, columns = np.mgrid[:SIDE, :SIDE] / (SIDE - 1)
    red, green = rows * (number % 256), columns * (number // 4)
    return Image.fromarray(np.stack([red, green, 255 * rows * columns], -1).astype(np.uint8))


def encode(image: Image.Image, form: str, **how) -> bytes:
    file = io.BytesIO()
    image.save(file, format=form, **how)
    return file.getvalue()


def grey16(number: int) -> np.ndarray:
    return np.arange(SIDE * SIDE, dtype=np.uint16).reshape(SIDE, SIDE) * (400 + number // 20)


def _rotated(image: Image.Image) -> bytes:
    exif = image.getexif()
    exif[0x0112] = 6
    return encode(image, "png", exif=exif)


def _half_zeros(number: int) -> bytes:
    """What is left where a download broke off but the file had its length."""
    encoded = encode(picture(number).resize((99, 99)), "jpeg", quality=98)
    kept = len(encoded) * 3 // 4
    return encoded[:kept] + bytes(len(encoded) - kept)


def _twelve_bits(number: int) -> bytes:
    """A grey TIFF of 12 bits a pixel, which Pillow reads but can't write: two pixels in three bytes."""
    levels = (grey16(number) >> 4).reshape(-1, 2).astype(int)
    first, second = levels.T
    packed = (
        np.stack([first >> 4, (first & 15) << 4 | second >> 8, second & 255], -1).astype(np.uint8).tobytes()
    )
    entries = [(256, 4, SIDE), (257, 4, SIDE), (258, 3, 12), (259, 3, 1), (262, 3, 1), (273, 4, 0)]
    entries += [(277, 3, 1), (278, 4, SIDE), (279, 4, len(packed))]
    start = 8 + 2 + 12 * len(entries) + 4
    table = b"".join(
        tag.to_bytes(2, "little") + kind.to_bytes(2, "little") + (1).to_bytes(4, "little")
        + (start if tag == 273 else value).to_bytes(4, "little")
        for tag, kind, value in entries
    )  # fmt: skip
    return b"II*\0\x08\0\0\0" + len(entries).to_bytes(2, "little") + table + bytes(4) + packed


def _palette(number: int, **how) -> bytes:
    return encode(picture(number).quantize(16), "png", **how)


def _clear(number: int) -> bytes:
    image = picture(number)
    image.putalpha(Image.new("L", image.size, 7))
    return encode(image, "png")


def _frames(number: int) -> bytes:
    return encode(picture(number), "webp", save_all=True, append_images=[picture(number + 1)], lossless=True)


ODD: dict[str, tuple[str, tuple[str, ...], str, Callable[[int], bytes]]] = {
    "grey": (".jpg", ("grey",), "used", lambda n: encode(picture(n).convert("L"), "jpeg")),
    "black and white": (".png", ("grey",), "used", lambda n: encode(picture(n).convert("1"), "png")),
    "16 bits": (".png", ("16-bit",), "used", lambda n: encode(Image.fromarray(grey16(n)), "png")),
    "white is zero": (
        ".tif", ("16-bit",), "used",
        lambda n: encode(Image.fromarray(grey16(n)), "tiff", tiffinfo={262: 0}),
    ),
    "12 bits": (".tif", ("16-bit",), "used", _twelve_bits),
    "CMYK": (".jpg", ("CMYK",), "used", lambda n: encode(picture(n).convert("CMYK"), "jpeg", quality=98)),
    "palette": (".png", ("palette",), "used", _palette),
    "clear palette": (
        ".png", ("palette", "transparent"), "used",
        lambda n: _palette(n, transparency=bytes(range(0, 256, 16))),
    ),
    "opacity": (".png", ("transparent",), "used", _clear),
    "rotated": (".png", ("rotated",), "used", lambda n: _rotated(picture(n))),
    "a PNG called .jpg": (".jpg", ("wrong suffix",), "used", lambda n: encode(picture(n), "png")),
    "frames": (".webp", ("several frames",), "used", _frames),
    "cut short": (".jpg", ("damaged",), "refused", lambda n: encode(picture(n), "jpeg")[:-40]),
    "half zeros": (".jpg", ("damaged",), "refused", _half_zeros),
    "cut short PNG": (".png", ("damaged",), "refused", lambda n: encode(picture(n), "png")[:-40]),
    "empty": (".jpg", ("empty",), "refused", lambda n: b""),
    "text": (".jpg", ("no picture",), "refused", lambda n: b"<html>404 Not Found</html>" * n),
    "floats": (
        ".tif", ("32-bit",), "refused",
        lambda n: encode(Image.fromarray(grey16(n).astype(np.float32)), "tiff"),
    ),
    "called .dat": (".dat", ("wrong suffix",), "passed over", lambda n: encode(picture(n), "jpeg")),
    "notes": (".txt", ("other file",), "passed over", lambda n: b"notes %d" % n),
}  # fmt: skip
"""By name: suffix, what is told of it, and its bytes by number."""


def make(root: Path) -> dict[str, tuple[tuple[str, ...], str]]:
    """Write the folder; returns what is to be told, by path."""
    kinds, told = list(ODD), {}
    for number in range(COUNT):
        split, label = "val" if number % 5 == 0 else "train", CLASSES[number % 2]
        folder = root / split / label / ("deeper" if number % 3 == 0 else "")
        folder.mkdir(parents=True, exist_ok=True)
        is_odd = number % 25 == 7
        suffix, kind, action, write = (
            ODD[kinds[number // 25 % len(kinds)]] if is_odd else (".png", (), "", None)
        )
        path = folder / f"{number}{suffix}"
        path.write_bytes(write(number) if write else encode(picture(number), "png"))
        if is_odd:
            told[os.fspath(path)] = kind, action
    return told
