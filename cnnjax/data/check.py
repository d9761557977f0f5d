"""Look at every picture of a folder: which are odd, and what else is."""

import contextlib
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from cnnjax.data.folders import Folder, list_folder
from cnnjax.data.listing import is_picture
from cnnjax.data.odd import Finding, Seen, look
from cnnjax.machine import usable_cores


@dataclass(frozen=True)
class Report:
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

    def __str__(self) -> str:
        order = ("used", "passed over", "refused")
        rows = sorted(self.findings, key=lambda finding: (order.index(finding.action), finding.path))
        kinds = Counter(kind for finding in rows for kind in finding.kinds)
        files = Counter(action for _, action in {(row.path, row.action) for row in rows})
        speed = self.pictures / max(self.seconds, 1e-9) / self.cores
        return "\n".join(
            [
                *(f"{row.path}: {', '.join(row.kinds)}; {row.action}: {row.why}" for row in rows),
                *(f"{count:7,} {kind}" for kind, count in kinds.most_common()),
                f"{self.folder}: {self.pictures:,} pictures, {files['refused']:,} of them refused and "
                f"{files['used']:,} odd but used; {files['passed over']:,} other files are passed over",
                f"read in {self.seconds:.1f} s on {self.cores} cores: {speed:,.0f} pictures/s a core",
            ]
        )


def check_folder(folder: Path) -> Report:
    """Read every picture of a folder of photographs, and list what is odd.

    That includes files that hold a picture under another name, copies, and classes that differ only in case.

    Raises:
        UserError: the folder has another layout (`cnnjax.data.folders`).
    """
    found, start = list_folder(folder), time.monotonic()
    seen = [*look(found.train), *look(found.test)]
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


def _other(path: str) -> Finding:
    """A file that is passed over."""
    if is_picture(path):
        return Finding(path, ("in no class",), "passed over", "it lies in no class's folder", True)
    with contextlib.suppress(Exception), warnings.catch_warnings():  # any of Pillow's readers may fail
        warnings.simplefilter("ignore")
        with Image.open(path) as image:
            return Finding(path, ("wrong suffix",), "passed over", f"rename it: it is a {image.format}", True)
    return Finding(path, ("other file",), "passed over", "no picture")


def _copies(seen: list[Seen], names: list[str], train: int) -> Iterator[Finding]:
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
