"""Which files lie in a folder: visible ones, and pictures by class."""

import os
from collections.abc import Iterator
from pathlib import Path

from cnnjax.data.pictures import SUFFIXES
from cnnjax.errors import UserError

LAYOUT = (
    "a data set of photographs holds train/CLASS/*.jpg and val/CLASS/*.jpg, or CLASS/*.jpg alone, "
    "or train/*.tar, or train-*.parquet, or was prepared by tensorflow-datasets and holds dataset_info.json"
)
_JUNK = ("__MACOSX", "@eaDir", "lost+found")  # left by a Mac's archives, a Synology's index, a file system


def pictures_by_class(split: Path) -> tuple[dict[str, list[str]], list[str], list[str]]:
    """Sorted names, relative to `split`, of its pictures by class; paths of all other files; dead links."""
    pictures: dict[str, list[str]] = {}
    others: list[str] = []
    dead: list[str] = []
    for entry in visible(split):
        if not is_folder(entry):
            others.append(entry.path)
            continue
        names = pictures[entry.name] = []
        for name, file in _files(entry.path, f"{entry.name}/"):
            if not is_picture(name):
                others.append(file.path)
            elif file.is_file():
                names.append(name)
            else:
                dead.append(file.path)
    if not pictures:
        raise UserError(
            f"{split} holds pictures but no class folders; they must lie in {split}/CLASS/"
            if any(map(is_picture, others))
            else f"{split} holds no pictures: {LAYOUT}"
        )
    return pictures, others, dead


def _files(
    folder: str, prefix: str, above: frozenset[str] = frozenset()
) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """Sorted files in a folder and its subfolders, each with its name after `prefix`."""
    here = os.path.realpath(folder)
    if here in above:  # a link leads back
        return
    for entry in visible(folder):
        if is_folder(entry):
            yield from _files(entry.path, f"{prefix}{entry.name}/", above | {here})
        else:
            yield prefix + entry.name, entry


def visible(folder: Path | str) -> list[os.DirEntry[str]]:
    """The entries of a folder, by name, without hidden files and junk."""
    with os.scandir(folder) as entries:
        seen = [entry for entry in entries if entry.name[0] != "." and entry.name not in _JUNK]
    return sorted(seen, key=lambda entry: entry.name)


def is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether an entry is a folder or a link to one."""
    # Unlike `is_dir`, `isdir` takes a link to itself; but it asks the disk each time.
    return os.path.isdir(entry.path) if entry.is_symlink() else entry.is_dir()


def is_picture(name: str) -> bool:
    """Whether a file is a picture by its name."""
    return os.path.splitext(name)[1].lower() in SUFFIXES
