"""Decoded data sets on disk, memory-mapped, so that a second start has its data immediately."""

import contextlib
import fcntl
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from cnnjax.data.dataset import Dataset
from cnnjax.errors import UserError
from cnnjax.files import cache_root, replacing_folder, write_json

OFFICIAL = "official"  # the key of data whose archives are the published ones
_ARRAYS = ("train_images", "train_labels", "test_images", "test_labels")
_LAYOUT = 1  # to be raised when the files or the canonical order change: older entries are then rebuilt


def entry_folder(name: str, key: str = OFFICIAL) -> Path:
    """The folder of a data set's arrays, whether it exists or not."""
    return cache_root() / "datasets" / name / key


def lookup(name: str, key: str = OFFICIAL) -> Dataset | None:
    """Open a cached data set, memory-mapped; None if it is absent or damaged."""
    folder = entry_folder(name, key)
    try:
        meta = json.loads((folder / "meta.json").read_text())
        files = [folder / f"{array}.npy" for array in _ARRAYS]
        if meta["layout"] != _LAYOUT or meta["bytes"] != [file.stat().st_size for file in files]:
            return None
        arrays = [np.load(file, mmap_mode="r") for file in files]
        return Dataset(name, *arrays, classes=meta["classes"], source=meta["source"])
    except (OSError, EOFError, ValueError, KeyError, TypeError, UserError):
        return None


def cached(name: str, key: str, build: Callable[[], Dataset], *, rebuild: bool = False) -> Dataset:
    """Open a cached data set; if it is absent or damaged, or on `rebuild`, build and store it first."""
    if not rebuild and (found := lookup(name, key)):
        return found
    folder = entry_folder(name, key)
    with _locked(folder):
        # Of several processes that start together the first builds, the others find it done.
        if rebuild or not lookup(name, key):
            _store(build(), folder)
    if stored := lookup(name, key):
        return stored
    raise UserError(f"{name}: the cache entry {folder} does not read back as written; check the disk")


def _store(dataset: Dataset, folder: Path) -> None:
    with replacing_folder(folder) as new:
        files = [new / f"{array}.npy" for array in _ARRAYS]
        for array, file in zip(_ARRAYS, files, strict=True):
            np.save(file, getattr(dataset, array))
        meta = {
            "layout": _LAYOUT,
            "name": dataset.name,
            "classes": dataset.classes,
            "source": dataset.source,
            "bytes": [file.stat().st_size for file in files],
        }
        write_json(new / "meta.json", meta)


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock = open(folder.parent / ".lock", "w")  # noqa: SIM115 - closed below, which also unlocks it
    except OSError as error:
        raise UserError(
            f"cannot write the cache {folder.parent} ({error.strerror}); "
            "set CNNJAX_CACHE to a folder that you can write"
        ) from error
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
