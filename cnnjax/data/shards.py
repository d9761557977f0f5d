"""Photographs in tar files, as webdataset has them: `train/*.tar` and `val/*.tar`.

An example is two members of one name: `NAME.jpg` (or another suffix of pictures) and `NAME.cls`, its label as
a number in text; others of that name are passed over. Pictures are read from where they are, in any order;
when the files are opened, only headers and labels are read.
"""

import hashlib
import os
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cnnjax.data.pictures import SUFFIXES
from cnnjax.errors import UserError

SUFFIX, LABEL = ".tar", ".cls"


class _Members(NamedTuple):
    """The examples of one tar file: names, and each picture's first byte, size and label."""

    names: list[str]
    starts: list[int]
    sizes: list[int]
    labels: list[int]


class ShardRecords:
    """The pictures of one split as (encoded picture, label), in the order of the files and in them.

    Args:
        shards: the tar files.

    Raises:
        UserError: one is damaged, or holds a picture without a label.
    """

    def __init__(self, shards: Sequence[Path]):
        self._shards = [os.fspath(shard) for shard in shards]
        read = [_members(shard) for shard in shards]
        # Arrays, as lists of a million take worker processes seconds to receive.
        self._names = np.array([name.encode() for members in read for name in members.names], np.bytes_)
        self._places = np.array(
            [
                (number, start, size)
                for number, members in enumerate(read)
                for start, size in zip(members.starts, members.sizes, strict=True)
            ],
            np.int64,
        ).reshape(-1, 3)
        self.labels = np.array([label for members in read for label in members.labels], np.int32)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[bytes, int]:
        shard, start, size = self._places[index].tolist()
        with open(self._shards[shard], "rb") as file:
            file.seek(start)
            return file.read(size), int(self.labels[index])

    def name(self, index: int) -> str:
        """The tar file and the member, for messages."""
        return f"{self._shards[self._places[index, 0]]}:{bytes(self._names[index]).decode()}"

    def digest(self) -> str:
        """SHA-256 over the members' names, sizes and labels; how they are divided makes no difference."""
        digest = hashlib.sha256()
        sizes = self._places[:, 2].tolist()
        for name, size, label in zip(self._names.tolist(), sizes, self.labels.tolist(), strict=True):
            digest.update(b"%s\0%d %d\0" % (name, size, label))
        return digest.hexdigest()


def shards_of(folder: Path) -> list[Path]:
    """The tar files in a folder, sorted by name."""
    return sorted(path for path in folder.glob(f"*{SUFFIX}") if path.name[0] != ".")


def _members(shard: Path) -> _Members:
    pictures: dict[str, tarfile.TarInfo] = {}
    labels: dict[str, int] = {}
    try:
        with tarfile.open(shard, "r:") as tar:  # compressed ones could not be read in any order
            for member in tar:
                folder, base = os.path.split(member.name)
                stem, dot, suffix = base.partition(".")  # as webdataset does: at the first one
                stem = os.path.join(folder, stem)
                if dot + suffix.lower() in SUFFIXES:
                    pictures[stem] = member
                elif dot + suffix == LABEL:
                    file = tar.extractfile(member)
                    labels[stem] = int(file.read() if file else b"")
    except (tarfile.TarError, ValueError, EOFError) as error:
        raise UserError(
            f"{shard} is no whole, uncompressed tar file of pictures and labels ({error})"
        ) from None
    if not pictures:
        raise UserError(f"{shard} holds no pictures")
    if missing := [stem for stem in pictures if stem not in labels]:
        raise UserError(f"{shard}: {pictures[missing[0]].name} has no label: there is no {missing[0]}{LABEL}")
    found = list(pictures.values())
    return _Members(
        [member.name for member in found],
        [member.offset_data for member in found],
        [member.size for member in found],
        [labels[stem] for stem in pictures],
    )
