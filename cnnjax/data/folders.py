"""Photographs in folders: `train/CLASS/*.jpg` and `val/CLASS/*.jpg`, or `CLASS/*.jpg` alone.

Or in tar files there (`cnnjax.data.shards`), or in Parquet files (`cnnjax.data.parquet`).
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cnnjax.data.listing import LAYOUT, is_folder, pictures_by_class, visible
from cnnjax.data.local import find_packing
from cnnjax.data.parquet import ParquetRecords
from cnnjax.data.parquet_files import SUFFIX, parquet_files
from cnnjax.data.picture_files import FolderRecords
from cnnjax.data.pictures import SUFFIXES
from cnnjax.data.records import Records
from cnnjax.data.shards import ShardRecords, shards_of
from cnnjax.data.specs import SPECS
from cnnjax.errors import UserError

TRAIN, TEST = ("train", "training"), ("val", "valid", "validation", "test", "testing")
"""Names of the splits' folders, in any case; the first that is there is taken."""
_NO_TEST = "no test pictures: hold some out by --validation N"


class Folder(NamedTuple):
    """What a folder of photographs holds.

    Attributes:
        test: empty if the folder is not divided.
        classes: their folders' names, sorted, or as Parquet files name them, or in tar files their numbers;
            a label counts them.
        others: paths of files that are passed over: no picture by their name, or in no class's folder.
        dead: paths of links to nothing.
        remarks: notes for its owner, as lines of text.
    """

    train: Records
    test: Records
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
    if (shards := _shards(folder, inner, train, test)) is not None:
        return shards
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


def _shards(folder: Path, inner: Mapping[str, Path], train: Path | None, test: Path | None) -> Folder | None:
    """What tar or Parquet files hold, if there are some: in the splits' folders or beside them."""
    if train is not None:
        if tars := shards_of(train):
            return _of_shards(train, ShardRecords(tars), ShardRecords(shards_of(test) if test else []))
        splits = [sorted(split.glob(f"*{SUFFIX}")) if split else [] for split in (train, test)]
        return _of_parquet(folder, *splits) if splits[0] else None
    for place in filter(None, (folder, inner.get("data"))):
        if files := parquet_files(place, TRAIN):
            return _of_parquet(place, files, parquet_files(place, TEST))
    return None


def _of_parquet(folder: Path, train: Sequence[Path], test: Sequence[Path]) -> Folder:
    records, test_records = ParquetRecords(train), ParquetRecords(test)
    if test and test_records.class_names != records.class_names:
        raise UserError(f"{test[0]} has other classes than {train[0]}")
    return _of_shards(folder, records, test_records, records.class_names)


def _of_shards(
    place: Path,
    train: ShardRecords | ParquetRecords,
    test: ShardRecords | ParquetRecords,
    names: Sequence[str] = (),
) -> Folder:
    """What records with numbers for labels hold; without `names`, the classes are called by these."""
    classes = tuple(names or map(str, range(int(train.labels.max()) + 1)))
    for each in (train, test):
        if (wrong := np.flatnonzero((each.labels < 0) | (each.labels >= len(classes)))).size:
            raise UserError(
                f"{each.name(wrong[0])}: its label is {each.labels[wrong[0]]}; "
                f"those of {place} are from 0 to {len(classes) - 1}"
            )
    return Folder(train, test, classes, (), (), () if len(test) else (_NO_TEST,))


def _check_undivided(folder: Path, inner: Sequence[Path]) -> None:
    """Raise UserError if a folder holds data sets of another form, and suggest what to name instead."""
    for entry in SPECS.values():
        if entry.packings and find_packing((*entry.packings, *entry.unpacked), folder):
            raise UserError(
                f"{folder} holds {entry.name}'s archives, no pictures: name {entry.name}, and the folder by "
                f"--data-dir {folder}"
            )
    for child in inner:
        inside = any((child / name).exists() for name in ("dataset_info.json", *TRAIN))
        if inside or parquet_files(child, TRAIN):
            raise UserError(f"{folder} is no data set itself; name the folder in it, {child}")


def _named(classes: Sequence[str], split: Path) -> str:
    """These classes, at most five by name, as the subject of a clause."""
    names = ", ".join(classes[:5]) + (" ..." if len(classes) > 5 else "")
    return (
        f"class {names} in {split} has"
        if len(classes) == 1
        else f"{len(classes):,} classes in {split} ({names}) have"
    )
