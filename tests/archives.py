"""Fixtures: tiny archives in the published formats, and a machine that holds no data set yet."""

import gzip
import hashlib
import io
import pickle
import struct
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cnnjax.data import Dataset, sources, specs

Arrays = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


@pytest.fixture
def cache(monkeypatch, tmp_path) -> Path:
    """A machine that holds no data set yet; the cache's folder."""
    monkeypatch.setenv("CNNJAX_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "tfds"))
    monkeypatch.setattr(sources, "_SYSTEM_FOLDERS", {})
    return tmp_path / "cache"


@pytest.fixture
def publish(monkeypatch) -> Callable[[str, Path], None]:
    """Make the archives of a data set that lie in a folder the official ones."""

    def publish(name: str, folder: Path) -> None:
        entry = specs.SPECS[name]
        packings = tuple(
            replace(packing, archives=tuple(_published(one, folder) for one in packing.archives))
            for packing in entry.packings
        )
        extra = tuple(_published(one, folder) for one in entry.tfds_extra)
        small = replace(entry, packings=packings, tfds_extra=extra, train=20, test=8)
        monkeypatch.setitem(specs.SPECS, name, small)

    return publish


def _published(archive: specs.Archive, folder: Path) -> specs.Archive:
    path = folder / archive.name
    if not path.exists():
        return archive
    content = path.read_bytes()
    return replace(archive, sha256=hashlib.sha256(content).hexdigest(), bytes=len(content))


@pytest.fixture
def tiny() -> Callable[..., Arrays]:
    """Random arrays of 20 training and 8 test images."""

    def tiny(shape: tuple[int, int, int], classes: int, seed: int = 1) -> Arrays:
        rng = np.random.default_rng(seed)

        def split(count: int):
            images = rng.integers(0, 256, (count, *shape), dtype=np.uint8)
            return images, rng.integers(classes, size=count).astype(np.int32)

        return *split(20), *split(8)

    return tiny


@pytest.fixture
def write_idx() -> Callable[[Path, Arrays], None]:
    def write_idx(folder: Path, arrays: Arrays) -> None:
        folder.mkdir(exist_ok=True)
        names = ["train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1"]
        for name, array in zip(names, arrays, strict=True):
            shape = array.shape[:3]
            header = struct.pack(f">{1 + len(shape)}I", 0x0800 + len(shape), *shape)
            content = header + array.astype(np.uint8).tobytes()
            (folder / f"{name}-ubyte.gz").write_bytes(gzip.compress(content, mtime=0))

    return write_idx


@pytest.fixture
def write_tar() -> Callable[[Path, dict[str, bytes]], Path]:
    def write_tar(path: Path, files: dict[str, bytes]) -> Path:
        content = io.BytesIO()
        with tarfile.open(fileobj=content, mode="w") as tar:
            for name, data in files.items():
                member = tarfile.TarInfo(name)
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
        path.write_bytes(gzip.compress(content.getvalue(), mtime=0))  # the same bytes at any time
        return path

    return write_tar


@pytest.fixture
def write_cifar(write_tar) -> Callable[..., Path]:
    """Write CIFAR-10 or -100 as the binary or the Python archive."""

    def write_cifar(folder: Path, name: str, packing: str, arrays: Arrays) -> Path:
        folder.mkdir(exist_ok=True)
        hundred = name == "cifar100"
        train, test = _batches(arrays[0], arrays[1], 1 if hundred else 5), [(arrays[2], arrays[3])]
        stem = "cifar-100" if hundred else "cifar-10"
        if hundred:
            names = ["train", "test"]
        else:
            names = [*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"]
        if packing == "binary":
            inner = "cifar-100-binary" if hundred else "cifar-10-batches-bin"
            files = {
                f"{inner}/{file}.bin": _records(*batch, hundred)
                for file, batch in zip(names, [*train, *test], strict=True)
            }
            ten = [f"class{number}" for number in range(10)]
            if hundred:
                files[f"{inner}/fine_label_names.txt"] = _lines([f"class{number}" for number in range(100)])
                files[f"{inner}/coarse_label_names.txt"] = _lines([f"group{number}" for number in range(20)])
            else:
                files[f"{inner}/batches.meta.txt"] = _lines(ten)
        else:
            inner = "cifar-100-python" if hundred else "cifar-10-batches-py"
            files = {
                f"{inner}/{file}": _pickled(*batch, hundred)
                for file, batch in zip(names, [*train, *test], strict=True)
            }
        return write_tar(folder / f"{stem}-{packing}.tar.gz", files)

    return write_cifar


def _batches(images: np.ndarray, labels: np.ndarray, count: int) -> list[tuple[np.ndarray, np.ndarray]]:
    return list(zip(np.array_split(images, count), np.array_split(labels, count), strict=True))


def _records(images: np.ndarray, labels: np.ndarray, hundred: bool) -> bytes:
    return b"".join(
        (bytes([label % 20]) if hundred else b"") + bytes([label]) + image.transpose(2, 0, 1).tobytes()
        for image, label in zip(images, labels.tolist(), strict=True)
    )


def _pickled(images: np.ndarray, labels: np.ndarray, hundred: bool) -> bytes:
    pixels = np.ascontiguousarray(images.transpose(0, 3, 1, 2)).reshape(len(images), -1)
    batch = {b"data": pixels, b"fine_labels" if hundred else b"labels": labels.tolist()}
    if hundred:
        batch[b"coarse_labels"] = [label % 20 for label in labels.tolist()]
    # The published pickles were written by Python 2 and name numpy's module as it was called then.
    return pickle.dumps(batch, protocol=2).replace(b"cnumpy._core.multiarray", b"cnumpy.core.multiarray")


def _lines(names: list[str]) -> bytes:
    return "".join(f"{name}\n" for name in names).encode()


@pytest.fixture
def write_svhn() -> Callable[[Path, Arrays], None]:
    from scipy.io import savemat

    def write_svhn(folder: Path, arrays: Arrays) -> None:
        folder.mkdir(exist_ok=True)
        for split, images, labels in (("train", *arrays[:2]), ("test", *arrays[2:]), ("extra", *arrays[2:])):
            digits = np.where(labels == 0, 10, labels).astype(np.uint8)[:, None]
            content = {"X": images.transpose(1, 2, 3, 0), "y": digits}
            savemat(folder / f"{split}_32x32.mat", content, do_compression=True)

    return write_svhn


@pytest.fixture
def assert_holds() -> Callable[[Dataset, Arrays], None]:
    """Check that a data set is these arrays, each split sorted by the digest of (image, label)."""

    def assert_holds(dataset: Dataset, arrays: Arrays) -> None:
        for images, labels, found_images, found_labels in (
            (*arrays[:2], dataset.train_images, dataset.train_labels),
            (*arrays[2:], dataset.test_images, dataset.test_labels),
        ):
            digests = [
                hashlib.sha256(image.tobytes() + bytes([label])).hexdigest()
                for image, label in zip(images, labels.tolist(), strict=True)
            ]
            order = [index for _, index in sorted(zip(digests, range(len(digests)), strict=True))]
            np.testing.assert_array_equal(found_images, images[order], strict=True)
            np.testing.assert_array_equal(found_labels, labels[order], strict=True)

    return assert_holds
