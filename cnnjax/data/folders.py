"""Photographs in folders, a class a folder: `train/CLASS/*.jpg` and `val/CLASS/*.jpg`."""

import hashlib
import os
from pathlib import Path

import numpy as np

from cnnjax.data.pictures import SUFFIXES
from cnnjax.errors import UserError


class FolderRecords:
    """The files of one split as (encoded picture, label), ordered by class and name."""

    def __init__(self, folder: Path, classes: list[str]):
        self._folder = folder
        found = [(name, label) for label, kind in enumerate(classes) for name in _pictures(folder / kind)]
        if not found:
            raise UserError(f"{folder} holds no pictures; they must lie in {folder}/CLASS/, such as 1.jpg")
        # An array, as a list of a million paths takes worker processes seconds to receive.
        self._names = np.array([os.fsencode(name.relative_to(folder)) for name, _ in found])
        self._labels = np.array([label for _, label in found], np.int32)

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


def open_folder(folder: Path) -> tuple[FolderRecords, FolderRecords, int]:
    """The training and test split and the number of classes, whose folders' names, sorted, are the labels."""
    train, test = folder / "train", folder / "val"
    for split in (train, test):
        if not split.is_dir():
            raise UserError(
                f"there is no folder {split}: a data set of photographs holds train/CLASS/*.jpg and "
                "val/CLASS/*.jpg, or was prepared by tensorflow-datasets and holds dataset_info.json"
            )
    classes, others = _classes(train), _classes(test)
    if unknown := sorted(set(others) - set(classes)):
        raise UserError(f"{test / unknown[0]}: there is no class {unknown[0]} in {train}")
    return FolderRecords(train, classes), FolderRecords(test, classes), len(classes)


def _classes(split: Path) -> list[str]:
    return sorted(entry.name for entry in os.scandir(split) if entry.is_dir() and entry.name[0] != ".")


def _pictures(folder: Path) -> list[Path]:
    if not folder.is_dir():  # a class without test pictures
        return []
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
