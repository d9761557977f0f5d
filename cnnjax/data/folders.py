"""Photographs in folders: `train/CLASS/*.jpg` and `val/CLASS/*.jpg`, or `CLASS/*.jpg` alone.

Or in tar files there (`cnnjax.data.shards`).
"""

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cnnjax.data.listing import LAYOUT, is_folder, pictures_by_class, visible
from cnnjax.data.local import find_packing
from cnnjax.data.pictures import SUFFIXES
from cnnjax.data.shards import ShardRecords, shards_of
from cnnjax.data.specs import SPECS
from cnnjax.errors import UserError

TRAIN, TEST = ("train", "training"), ("val", "valid", "validation", "test", "testing")
"""Names of the splits' folders, in any case; the first that is there is taken."""
_NO_TEST = "no test pictures: hold some out by --validation N"


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

    @property
    def class_names(self) -> tuple[str, ...]:
        """The names of the classes' folders; every class must have a picture here, as in training."""
        _, first = np.unique(self._labels, return_index=True)
        return tuple(os.fsdecode(bytes(self._names[index])).split("/", 1)[0] for index in first)

    def digest(self) -> str:
        """SHA-256 over the files' names in the folder, sizes and labels."""
        digest = hashlib.sha256()
        for index, (name, label) in enumerate(zip(self._names.tolist(), self._labels.tolist(), strict=True)):
            digest.update(b"%s\0%d %d\0" % (name, self._path(index).stat().st_size, label))
        return digest.hexdigest()

    def _path(self, index: int) -> Path:
        return self._folder / os.fsdecode(bytes(self._names[index]))


class Folder(NamedTuple):
    """What a folder of photographs holds.

    Attributes:
        test: empty if the folder is not divided.
        classes: their folders' names, sorted, or in tar files their numbers; a label counts them.
        others: paths of files that are passed over: no picture by their name, or in no class's folder.
        dead: paths of links to nothing.
        remarks: notes for its owner, as lines of text.
    """

    train: FolderRecords | ShardRecords
    test: FolderRecords | ShardRecords
    classes: tuple[str, ...]
    others: tuple[str, ...]
    dead: tuple[str, ...]
    remarks: tuple[str, ...]


def open_folder(folder: Path) -> Folder:
    """List the photographs of a folder.

    Hidden files and folders are skipped. Pictures may be in subfolders of their class's folder.

    Raises:
        UserError: it has another layout, a class has no training pictures, or a link leads nowhere.
    """
    found = list_folder(folder)
    if found.dead:
        raise UserError(f"{found.dead[0]} is a link to nothing; remove it or bring the picture back")
    return found


def list_folder(folder: Path) -> Folder:
    """Like `open_folder`, but links that lead nowhere are in `dead`."""
    inner = {entry.name.lower(): Path(entry.path) for entry in visible(folder) if is_folder(entry)}
    train, test = (next((inner[name] for name in names if name in inner), None) for names in (TRAIN, TEST))
    if train is not None and shards_of(train):
        return _of_shards(train, test)
    if train is None:
        if test is not None:
            raise UserError(f"there is no folder {folder / TRAIN[0]} beside {test}: {LAYOUT}")
        _check_undivided(folder, list(inner.values()))
        train = folder
    pictures, others, dead = pictures_by_class(train)
    if empty := [kind for kind, names in pictures.items() if not names]:
        raise UserError(
            f"{_named(empty, train)} no training pictures; remove the folder, or fill it with files that end "
            f"in {', '.join(sorted(SUFFIXES))}"
        )
    test_pictures, remarks = {}, [_NO_TEST]
    if test is not None:
        test_pictures, *more = pictures_by_class(test)
        others, dead = others + more[0], dead + more[1]
        if unknown := sorted(test_pictures.keys() - pictures.keys()):
            raise UserError(f"{test / unknown[0]}: there is no class {unknown[0]} in {train}")
        if not any(test_pictures.values()):
            raise UserError(f"{test} holds no pictures; they must lie in {test}/CLASS/, such as 1.jpg")
        empty = [kind for kind in pictures if not test_pictures.get(kind)]
        remarks = [f"{_named(empty, test)} no test pictures"] if empty else []
    if others:
        files = "files are" if len(others) > 1 else "file is"
        remarks.append(f"{len(others):,} other {files} passed over, such as {others[0]}")
    return Folder(
        FolderRecords(train, list(pictures.values())),
        FolderRecords(test or folder, [test_pictures.get(kind, []) for kind in pictures]),
        tuple(pictures),
        tuple(others),
        tuple(dead),
        tuple(remarks),
    )


def _of_shards(train: Path, test: Path | None) -> Folder:
    """What tar files hold; their labels are numbers."""
    records, test_records = ShardRecords(shards_of(train)), ShardRecords(shards_of(test) if test else [])
    classes = int(records.labels.max()) + 1
    for each in (records, test_records):
        if (wrong := np.flatnonzero((each.labels < 0) | (each.labels >= classes))).size:
            raise UserError(
                f"{each.name(wrong[0])}: its label is {each.labels[wrong[0]]}; "
                f"those of {train} are from 0 to {classes - 1}"
            )
    remarks = () if len(test_records) else (_NO_TEST,)
    return Folder(records, test_records, tuple(map(str, range(classes))), (), (), remarks)


def _check_undivided(folder: Path, inner: Sequence[Path]) -> None:
    """Raise UserError if a folder holds data sets of another form, and suggest what to name instead."""
    for entry in SPECS.values():
        if entry.packings and find_packing((*entry.packings, *entry.unpacked), folder):
            raise UserError(
                f"{folder} holds {entry.name}'s archives, no pictures: name {entry.name}, and the folder by "
                f"--data-dir {folder}"
            )
    for child in inner:
        if any((child / name).exists() for name in ("dataset_info.json", *TRAIN)):
            raise UserError(f"{folder} is no data set itself; name the folder in it, {child}")


def _named(classes: Sequence[str], split: Path) -> str:
    """These classes, at most five by name, as the subject of a clause."""
    names = ", ".join(classes[:5]) + (" ..." if len(classes) > 5 else "")
    return (
        f"class {names} in {split} has"
        if len(classes) == 1
        else f"{len(classes):,} classes in {split} ({names}) have"
    )
