"""Look at every picture of a data set: what is odd about it, and what is done about that."""

import concurrent.futures
import contextlib
import hashlib
import io
import os
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple, Protocol

import numpy as np
from PIL import Image, ImageFile

from cnnjax.data.folders import Folder, is_picture, list_folder
from cnnjax.images import BadPicture, decode, turn_of
from cnnjax.machine import usable_cores
from cnnjax.terminal import Page, Printable, progress, table


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


class _Records(Protocol):
    """See `cnnjax.data.streams.Records`."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> tuple[bytes, int]: ...

    def name(self, index: int, /) -> str: ...


class _Seen(NamedTuple):
    digest: bytes  # of the file
    label: int
    finding: Finding | None


@dataclass(frozen=True)
class Report(Printable):
    """What a pass over a folder found; `seconds` is how long it took on `cores`."""

    folder: str
    pictures: int
    findings: tuple[Finding, ...]
    seconds: float
    cores: int

    @property
    def lost(self) -> int:
        """How many pictures training does not use."""
        return sum(finding.lost for finding in self.findings)

    def __rich__(self) -> Page:
        """What is odd, by file and in all."""
        order = ("used", "passed over", "refused")
        rows = sorted(self.findings, key=lambda finding: (order.index(finding.action), finding.path))
        kinds = Counter(kind for finding in rows for kind in finding.kinds)
        files = Counter(action for _, action in {(row.path, row.action) for row in rows})
        speed = self.pictures / max(self.seconds, 1e-9) / self.cores
        cells = [(row.path, ", ".join(row.kinds), row.action, row.why) for row in rows]
        counts = [(f"{count:,}", kind) for kind, count in kinds.most_common()]
        odd = [table(cells, ("file", "what", "it is", "because"), "l"), "", table(counts, align="rl"), ""]
        return Page(
            *odd * bool(rows),
            f"{self.folder}: {self.pictures:,} pictures, {files['refused']:,} of them refused and "
            f"{files['used']:,} odd but used; {files['passed over']:,} other files are passed over",
            f"read in {self.seconds:.1f} s on {self.cores} cores: {speed:,.0f} pictures/s a core",
        )


def check_folder(folder: Path) -> Report:
    """Read every picture of a folder of photographs, and list what is odd.

    That includes files that hold a picture under another name, copies, and classes that differ only in case.

    Raises:
        UserError: the folder has another layout (`cnnjax.data.folders`).
    """
    found, start = list_folder(folder), time.monotonic()
    seen = [*_look(found.train), *_look(found.test)]
    seconds = time.monotonic() - start
    dead = [Finding(path, ("dead link",), "refused", "a link to nothing", True) for path in found.dead]
    names = [
        *(found.train.name(index) for index in range(len(found.train))),
        *(found.test.name(index) for index in range(len(found.test))),
    ]
    odd = [one.finding for one in seen if one.finding]
    return Report(
        str(folder),
        len(names) + len(dead),
        (*odd, *dead, *map(_other, found.others), *_copies(seen, names, len(found.train)), *_cases(found)),
        seconds,
        len(usable_cores()),
    )


def bad_pictures(records: _Records) -> dict[int, Finding]:
    """The pictures that cannot be used, by their place in `records`; reads them all."""
    findings = (one.finding for one in _look(records))
    return {
        index: finding
        for index, finding in enumerate(findings)
        if finding is not None and finding.action == "refused"
    }


def _look(records: _Records) -> Iterator[_Seen]:
    """Read and decode all pictures, in order, with a thread for each core."""
    cores = len(usable_cores())
    with warnings.catch_warnings(), concurrent.futures.ThreadPoolExecutor(cores) as pool:
        warnings.simplefilter("ignore")  # Pillow's, of damaged tags
        seen = pool.map(lambda index: _look_at(records, index), range(len(records)))
        with progress("pictures", len(records), "pictures") as show_done:
            for done, one in enumerate(seen, start=1):
                yield one
                show_done(done)


def _look_at(records: _Records, index: int) -> _Seen:
    name = records.name(index)
    try:
        encoded, label = records[index]
    except OSError as error:
        why = error.strerror or str(error)
        return _Seen(b"", -1, Finding(name, ("unreadable",), "refused", why, True))
    digest = hashlib.sha256(encoded).digest()
    try:
        decode(encoded, name)
    except BadPicture as bad:
        return _Seen(digest, label, Finding(name, (bad.kind,), "refused", bad.reason, True))
    with Image.open(io.BytesIO(encoded)) as image:
        kinds = {kind: done for kind, is_so, done in _KINDS if is_so(image, name)}
    finding = Finding(name, tuple(kinds), "used", "; ".join(kinds.values())) if kinds else None
    return _Seen(digest, label, finding)


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


def _other(path: str) -> Finding:
    """A file that is passed over."""
    if is_picture(path):
        return Finding(path, ("in no class",), "passed over", "it lies in no class's folder", True)
    with contextlib.suppress(Exception), warnings.catch_warnings():  # any of Pillow's readers may fail
        warnings.simplefilter("ignore")
        with Image.open(path) as image:
            return Finding(path, ("wrong suffix",), "passed over", f"rename it: it is a {image.format}", True)
    return Finding(path, ("other file",), "passed over", "no picture")


def _copies(seen: list[_Seen], names: list[str], train: int) -> Iterator[Finding]:
    """Pictures whose bytes were seen before; the first `train` are for training."""
    first: dict[bytes, int] = {}
    for index, one in enumerate(seen):
        before = first.setdefault(one.digest, index) if one.digest else index
        if before == index or (one.finding and one.finding.action == "refused"):
            continue
        crosses, differs = before < train <= index, one.label != seen[before].label
        kind = "in both splits" if crosses else "with two labels" if differs else "copy"
        yield Finding(names[index], (kind,), "used", f"the same file as {names[before]}")


def _cases(found: Folder) -> Iterator[Finding]:
    """Classes that differ only in case."""
    first: dict[str, str] = {}
    for name in found.classes:
        if (before := first.setdefault(name.casefold(), name)) != name:
            yield Finding(name, ("class in two cases",), "used", f"{before} is another class")
