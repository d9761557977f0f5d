"""Look at pictures one by one: what is odd about each, and what is done about that."""

import concurrent.futures
import contextlib
import hashlib
import io
import os
import warnings
from collections.abc import Callable, Iterator
from typing import Literal, NamedTuple

import numpy as np
from PIL import Image, ImageFile

from cnnjax.data.records import Records
from cnnjax.images import BadPicture, decode, turn_of
from cnnjax.machine import usable_cores


class Finding(NamedTuple):
    """What is odd about a file.

    Attributes:
        path: of the file.
        kinds: in a word or two each, such as "CMYK".
        action: whether training uses it, passes it over, or stops there.
        why: what is done about each kind, or what is wrong.
        lost: whether it is a picture that training does not use.
    """

    path: str
    kinds: tuple[str, ...]
    action: Literal["used", "passed over", "refused"]
    why: str
    lost: bool = False


class Seen(NamedTuple):
    """A picture that was read; no finding if nothing is odd about it."""

    digest: bytes  # of the file
    label: int
    finding: Finding | None


def bad_pictures(records: Records) -> dict[int, Finding]:
    """The pictures that cannot be used, by their place in `records`; reads them all."""
    findings = (one.finding for one in look(records))
    return {
        index: finding
        for index, finding in enumerate(findings)
        if finding is not None and finding.action == "refused"
    }


def look(records: Records) -> Iterator[Seen]:
    """Read and decode all pictures, in order, with a thread for each core."""
    from tqdm import tqdm  # names of data sets are listed without it

    cores = len(usable_cores())
    with warnings.catch_warnings(), concurrent.futures.ThreadPoolExecutor(cores) as pool:
        warnings.simplefilter("ignore")  # Pillow's, of damaged tags
        seen = pool.map(lambda index: _look_at(records, index), range(len(records)))
        yield from tqdm(seen, total=len(records), desc="pictures", disable=None, leave=False)


def _look_at(records: Records, index: int) -> Seen:
    name = records.name(index)
    try:
        encoded, label = records[index]
    except OSError as error:
        why = error.strerror or str(error)
        return Seen(b"", -1, Finding(name, ("unreadable",), "refused", why, True))
    except BadPicture as bad:
        return Seen(b"", -1, Finding(name, (bad.kind,), "refused", bad.reason, True))
    digest = hashlib.sha256(encoded).digest()
    try:
        decode(encoded, name)
    except BadPicture as bad:
        return Seen(digest, label, Finding(name, (bad.kind,), "refused", bad.reason, True))
    with Image.open(io.BytesIO(encoded)) as image:
        kinds = {kind: done for kind, is_so, done in _KINDS if is_so(image, name)}
    finding = Finding(name, tuple(kinds), "used", "; ".join(kinds.values())) if kinds else None
    return Seen(digest, label, finding)


def _is_named_otherwise(image: Image.Image, name: str) -> bool:
    meant = Image.registered_extensions().get(os.path.splitext(name)[1].lower())
    return meant is not None and {"MPO": "JPEG"}.get(image.format or "", image.format) != meant


def _has_16_bits(image: Image.Image, _: str) -> bool:
    """By its mode, or by how the file has its pixels: those of "RGB;16B" are read as RGB."""
    tiles = image.tile if isinstance(image, ImageFile.ImageFile) else []
    return image.mode.startswith("I") or any(";16" in str(tile.args) for tile in tiles)


def _is_clear(image: Image.Image, _: str) -> bool:
    if not image.has_transparency_data or image.mode.startswith("I"):  # one level of 16-bit grey may be clear
        return image.has_transparency_data
    return np.asarray(image.convert("RGBA"))[..., 3].min() < 255


def _has_frames(image: Image.Image, _: str) -> bool:
    with contextlib.suppress(Exception):  # those after the first may be damaged, which spoils nothing
        return getattr(image, "n_frames", 1) > 1
    return True


_KINDS: tuple[tuple[str, Callable[[Image.Image, str], bool], str], ...] = (
    ("wrong suffix", _is_named_otherwise, "read as what it is"),
    ("grey", lambda image, _: image.mode in ("1", "L", "LA"), "made three equal colours"),
    ("16-bit", _has_16_bits, "made 8-bit"),
    ("CMYK", lambda image, _: image.mode == "CMYK", "made RGB without its profile"),
    ("palette", lambda image, _: image.mode in ("P", "PA"), "made RGB"),
    ("rotated", lambda image, _: turn_of(image) is not None, "turned upright as its EXIF says"),
    ("huge", lambda image, _: image.width * image.height > (Image.MAX_IMAGE_PIXELS or 2**31), "slow to read"),
    # Those that load the picture, or move on in the file, are last.
    ("transparent", _is_clear, "its opacity is ignored"),
    ("several frames", _has_frames, "its first is taken"),
)
"""Kind, whether a picture that was opened is one, and what `cnnjax.images.decode` does about it."""
