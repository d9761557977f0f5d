"""Where a data set comes from: part of the program, the cache, local archives, or tensorflow-datasets."""

import contextlib
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from cnnjax.data import cache, local, tfds_source
from cnnjax.data.dataset import Dataset
from cnnjax.data.network import unreachable
from cnnjax.data.specs import Spec, spec
from cnnjax.data.synthetic import low_pass, synthetic
from cnnjax.errors import UserError

Source = Literal["auto", "archives", "tfds"]

_SYSTEM_FOLDERS = {"fashion_mnist": Path("/usr/share/datasets/fashion-mnist")}  # Debian's package


@dataclass(frozen=True)
class Fetched:
    """A data set that is ready to use, and the folder of its arrays (None if it is part of the package)."""

    dataset: Dataset
    folder: Path | None

    def __str__(self) -> str:
        data = self.dataset
        height, width, channels = data.train_images.shape[1:]
        where = f", in {self.folder}" if self.folder else ""
        return (
            f"{data.name}: {len(data.train_labels):,} training and {len(data.test_labels):,} test images of "
            f"{height}x{width}x{channels}, {data.classes} classes, from {data.source}{where}"
        )


def load(name: str, data_dir: Path | str | None = None, *, verify: bool = True) -> Dataset:
    """Load a data set without ever using the network.

    Archives are looked for in `data_dir` if it is given; otherwise the cache, a Debian package and the data
    that tensorflow-datasets has prepared are tried. `verify=False` accepts archives whatever their checksum.
    """
    entry = spec(name)
    if not entry.packings:
        return _built_in(entry)
    if data_dir is not None:
        return _from_archives(entry, Path(data_dir).expanduser(), verify).dataset
    if found := cache.lookup(name):
        return found
    if folder := _system_folder(entry):
        return _from_archives(entry, folder, verify).dataset
    if folder := tfds_source.prepared(name):
        return _from_records(entry, folder, progress=True).dataset
    raise UserError(_not_here(entry))


def fetch(
    name: str,
    data_dir: Path | str | None = None,
    *,
    source: Source = "auto",
    verify: bool = True,
    progress: bool = True,
) -> Fetched:
    """Make a data set ready: use what is there, otherwise download it through tensorflow-datasets.

    `source="archives"` decodes local archives afresh. `source="tfds"` goes through tensorflow-datasets; with
    `data_dir` it is handed the archives in this folder and downloads nothing.
    """
    entry = spec(name)
    folder = Path(data_dir).expanduser() if data_dir is not None else None
    if source not in get_args(Source):
        raise UserError(f"no data source is called {source!r}; there are: {', '.join(get_args(Source))}")
    if not entry.packings:
        return Fetched(_built_in(entry), None)
    if source == "auto" and folder is None and (found := cache.lookup(name)):
        return Fetched(found, cache.entry_folder(name))
    if source != "tfds" and (archives := folder or _system_folder(entry)):
        return _from_archives(entry, archives, verify, rebuild=source == "archives")
    if source == "archives":
        raise UserError(
            f"{name}: --source archives needs --data-dir FOLDER, a folder that holds "
            f"{local.describe(entry.packings)}"
        )
    if folder is not None:
        return _prepared_from_archives(entry, folder, verify, progress)
    if records := tfds_source.prepared(name):
        return _from_records(entry, records, progress, rebuild=source == "tfds")
    return _downloaded(entry, progress)


def find(name: str) -> str | None:
    """Where `load` would read a data set from, or None if it is not on this machine."""
    entry = spec(name)
    if not entry.packings:
        return "part of cnnjax"
    if cache.lookup(name):
        return f"cache in {cache.entry_folder(name)}"
    if folder := _system_folder(entry):
        return f"archives in {folder}"
    if folder := tfds_source.prepared(name):
        return f"tensorflow-datasets in {folder}"
    return None


def _built_in(entry: Spec) -> Dataset:
    if generated := {"synthetic": synthetic, "low_pass": low_pass}.get(entry.name):
        return generated()
    embedded = resources.files("cnnjax.data.fashion_mini") / "images.npz"
    with resources.as_file(embedded) as path, np.load(path) as arrays:
        return Dataset(entry.name, **arrays, classes=entry.classes, source="embedded")


def _system_folder(entry: Spec) -> Path | None:
    folder = _SYSTEM_FOLDERS.get(entry.name)
    return folder if folder and local.find_packing(entry.packings, folder) else None


def _from_archives(entry: Spec, folder: Path, verify: bool, *, rebuild: bool = False) -> Fetched:
    packing = local.require_packing(entry, (*entry.packings, *entry.unpacked), folder)
    key = local.check(packing.archives, folder, verify)

    def build() -> Dataset:
        arrays = packing.read(*(local.place(archive, folder) for archive in packing.archives))
        return Dataset(entry.name, *arrays, entry.classes, _archives_in(folder, key)).canonical()

    return _cached(entry, key, build, rebuild)


def _from_records(entry: Spec, records: Path, progress: bool, *, rebuild: bool = False) -> Fetched:
    def build() -> Dataset:
        return _decoded(entry, cache.OFFICIAL, records, f"tensorflow-datasets in {records}", progress)

    return _cached(entry, cache.OFFICIAL, build, rebuild)


def _prepared_from_archives(entry: Spec, folder: Path, verify: bool, progress: bool) -> Fetched:
    packing = local.require_packing(entry, [entry.tfds_packing], folder)
    key = local.check(entry.packings[0].archives, folder, verify)
    # tensorflow-datasets' own folder is for what it would have downloaded: anything else stays out of it.
    official = local.check(packing.archives, folder, verify) == cache.OFFICIAL

    def build() -> Dataset:
        with _records_folder(entry, keep=official) as home:
            records = tfds_source.prepare(entry.name, home, folder, progress)
            source = f"tensorflow-datasets with {_archives_in(folder, key)}"
            return _decoded(entry, key, records, source, progress)

    return _cached(entry, key, build, rebuild=True)


def _downloaded(entry: Spec, progress: bool) -> Fetched:
    url = entry.url + entry.packings[0].archives[0].name
    if reason := unreachable(url):
        raise UserError(f"{url} cannot be reached ({reason}); {_bring(entry)}")

    def build() -> Dataset:
        with _records_folder(entry, keep=True) as home:
            records = tfds_source.prepare(entry.name, home, None, progress)
            source = f"tensorflow-datasets, downloaded from {entry.url}"
            return _decoded(entry, cache.OFFICIAL, records, source, progress)

    return _cached(entry, cache.OFFICIAL, build, rebuild=True)


def _cached(entry: Spec, key: str, build: Callable[[], Dataset], rebuild: bool) -> Fetched:
    return Fetched(cache.cached(entry.name, key, build, rebuild=rebuild), cache.entry_folder(entry.name, key))


@contextlib.contextmanager
def _records_folder(entry: Spec, keep: bool) -> Iterator[Path]:
    """Yield tensorflow-datasets' own folder, or a temporary one for data that must not be kept there."""
    if keep and not tfds_source.holds_tfrecord(entry.name):
        yield tfds_source.home()
    else:
        with tempfile.TemporaryDirectory() as temporary:
            yield Path(temporary)


def _decoded(entry: Spec, key: str, records: Path, source: str, progress: bool) -> Dataset:
    arrays = tfds_source.read(records, progress)
    counts = len(arrays[1]), len(arrays[3])
    # Records carry no checksum of the archives they were made from; at least they must be complete.
    if key == cache.OFFICIAL and counts != (entry.train, entry.test):
        raise UserError(
            f"{records} holds {counts[0]} training and {counts[1]} test images, not {entry.train} and "
            f"{entry.test}; remove it and run `cnnjax data {entry.name}`"
        )
    return Dataset(entry.name, *arrays, entry.classes, source).canonical()


def _archives_in(folder: Path, key: str) -> str:
    return f"archives in {folder}" if key == cache.OFFICIAL else f"unofficial archives in {folder} ({key})"


def _not_here(entry: Spec) -> str:
    entry_folder = cache.entry_folder(entry.name)
    state = "damaged" if entry_folder.exists() else "absent"
    others = [
        folder for folder in (_SYSTEM_FOLDERS.get(entry.name), tfds_source.home() / entry.name) if folder
    ]
    return (
        f"{entry.name} is not on this machine (looked for {entry_folder}, which is {state}, and in "
        f"{' and '.join(map(str, others))}): `cnnjax data {entry.name}` downloads it; without network "
        f"{_bring(entry)}"
    )


def _bring(entry: Spec) -> str:
    return (
        f"bring {local.describe(entry.packings)} from {entry.url} to a folder and give it as "
        "--data-dir FOLDER"
    )
