"""Pictures in files of their own, in the folders of their classes."""

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np


class FolderRecords:
    """The files of one split as (encoded picture, label), ordered by class and name.

    Args:
        folder: of the split.
        pictures: their names below it, a list for each label.
    """

    def __init__(self, folder: Path, pictures: Sequence[Sequence[str]]):
        self._folder = folder
        # Arrays, as a list of a million names takes worker processes seconds to receive.
        self._names = np.array([os.fsencode(name) for names in pictures for name in names], np.bytes_)
        self._labels = np.repeat(np.arange(len(pictures), dtype=np.int32), [len(names) for names in pictures])

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, index: int) -> tuple[bytes, int]:
        return self._path(index).read_bytes(), int(self._labels[index])

    def name(self, index: int) -> str:
        """The file, for messages."""
        return str(self._path(index))

    def digest(self) -> str:
        """SHA-256 over the files' names in the folder, sizes and labels."""
        digest = hashlib.sha256()
        for index, (name, label) in enumerate(zip(self._names.tolist(), self._labels.tolist(), strict=True)):
            digest.update(b"%s\0%d %d\0" % (name, self._path(index).stat().st_size, label))
        return digest.hexdigest()

    def _path(self, index: int) -> Path:
        return self._folder / os.fsdecode(bytes(self._names[index]))
