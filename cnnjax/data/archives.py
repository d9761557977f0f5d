"""Readers of the archives in which the data sets are published, packed or unpacked.

Each reader takes the paths of the archives, or of their unpacked contents, and returns `(train_images,
train_labels, test_images, test_labels)`: images uint8 `[image, height, width, channel]`, labels int32
`[image]`, in the archive's own order.
A file that is damaged, truncated or of another format raises a `UserError` that names it.
"""

import contextlib
import gzip
import io
import math
import os
import pickle
import struct
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from cnnjax.errors import UserError

Arrays = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
Split = tuple[np.ndarray, np.ndarray]

_CIFAR_PIXELS = 3 * 32 * 32
# What pickled numpy arrays and numbers refer to; numpy 2 moved its core, and the archives say the old name.
_PICKLED_ARRAY = {
    (f"numpy.{core}.{module}", name): f"numpy._core.{module}"
    for core in ("core", "_core")
    for module, name in (
        ("multiarray", "_reconstruct"),
        ("multiarray", "scalar"),
        ("numeric", "_frombuffer"),  # from protocol 5 on
    )
} | {
    ("numpy", "ndarray"): "numpy",
    ("numpy", "dtype"): "numpy",
    ("_codecs", "encode"): "_codecs",
}


def read_idx(train_images: Path, train_labels: Path, test_images: Path, test_labels: Path) -> Arrays:
    """Read the four idx files, gzipped or not, of MNIST and its relatives; images get one channel."""
    return (
        _idx(train_images, rank=3)[..., None],
        _idx(train_labels, rank=1).astype(np.int32),
        _idx(test_images, rank=3)[..., None],
        _idx(test_labels, rank=1).astype(np.int32),
    )


def read_cifar_binary(
    archive: Path, *, train: Sequence[str], test: Sequence[str], label_bytes: int
) -> Arrays:
    """Read CIFAR's "binary version": records of `label_bytes` labels (the last counts) and 3072 pixels."""
    with _naming(archive):
        files = _members(archive, {*train, *test})
        return (
            *_records([files[name] for name in train], label_bytes),
            *_records([files[name] for name in test], label_bytes),
        )


def read_cifar_python(archive: Path, *, train: Sequence[str], test: Sequence[str], labels: bytes) -> Arrays:
    """Read CIFAR's "python version": pickled dictionaries; `labels` is the key of the labels."""
    with _naming(archive):
        files = _members(archive, {*train, *test})
        return (
            *_pickles([files[name] for name in train], labels),
            *_pickles([files[name] for name in test], labels),
        )


def read_svhn(train: Path, test: Path) -> Arrays:
    """Read SVHN's two MATLAB files of cropped digits; the digit 0, stored as 10, gets label 0."""
    return *_mat(train), *_mat(test)


@contextlib.contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Turn any error of a parser on bad content into one line that names the file."""
    try:
        yield
    except Exception as error:
        if isinstance(error, OSError) and error.errno:  # the disk's fault, not the content's
            raise
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{path} is damaged or of another format ({reason}); fetch it again") from error


def _idx(path: Path, rank: int) -> np.ndarray:
    with _naming(path):
        data = path.read_bytes()
        if data.startswith(b"\x1f\x8b"):  # gzip; a browser may have unpacked it and kept the name
            data = gzip.decompress(data)
        magic, *shape = struct.unpack_from(f">{rank + 1}I", data)
        unsigned_bytes = 0x0800
        if magic != unsigned_bytes + rank:
            raise ValueError(f"idx header {magic:#010x} where {unsigned_bytes + rank:#010x} was expected")
        content = np.frombuffer(data, np.uint8, offset=4 * (rank + 1))
        if content.size != math.prod(shape):
            raise ValueError(f"its header promises {math.prod(shape)} bytes of data, it holds {content.size}")
        return content.reshape(shape)


def _members(archive: Path, names: set[str]) -> dict[str, bytes]:
    """Read the named files from a .tar.gz, in whatever folder they are, or from a folder."""
    files = {}
    if archive.is_dir():
        files = {name: (archive / name).read_bytes() for name in names if (archive / name).is_file()}
    else:
        with tarfile.open(archive, "r:gz") as tar:
            for member in tar:
                name = PurePosixPath(member.name).name
                if name in names and (file := tar.extractfile(member)) is not None:
                    files[name] = file.read()
    if missing := sorted(names - files.keys()):
        raise ValueError(f"it holds no {', '.join(missing)}")
    return files


def _records(files: Sequence[bytes], label_bytes: int) -> Split:
    size = label_bytes + _CIFAR_PIXELS
    for data in files:
        if len(data) % size:
            raise ValueError(f"{len(data)} bytes are not a whole number of {size}-byte records")
    records = np.frombuffer(b"".join(files), np.uint8).reshape(-1, size)
    return _channels_last(records[:, label_bytes:]), records[:, label_bytes - 1].astype(np.int32)


def _pickles(files: Sequence[bytes], labels: bytes) -> Split:
    batches = [_ArraysOnly(io.BytesIO(data), encoding="bytes").load() for data in files]
    # Python 2 wrote the published ones; whoever wrote them again with Python 3 may have made the keys text.
    batches = [{os.fsencode(key): value for key, value in batch.items()} for batch in batches]
    images = np.concatenate([batch[b"data"] for batch in batches])
    if images.ndim != 2 or images.shape[1] != _CIFAR_PIXELS:
        raise ValueError(f"its images have shape {images.shape}, not [image, {_CIFAR_PIXELS}]")
    return _channels_last(images), _whole(np.concatenate([batch[labels] for batch in batches]))


def _whole(labels: np.ndarray) -> np.ndarray:
    """The same numbers as int32.

    Raises:
        ValueError: one of them is not an integer, or the array is not a list of numbers.
    """
    if labels.ndim != 1 or labels.dtype.kind not in "iuf":
        raise ValueError(f"its labels are {labels.dtype} of shape {labels.shape}, not whole numbers [image]")
    with np.errstate(invalid="ignore"):  # NaN
        cast = labels.astype(np.int32)
    if (bad := np.flatnonzero(cast != labels)).size:
        raise ValueError(f"image {bad[0]} (counted from 0) has label {labels[bad[0]]}, no whole number")
    return cast


def _channels_last(pixels: np.ndarray) -> np.ndarray:
    """Turn `[image, channel * height * width]` into contiguous `[image, height, width, channel]`."""
    return np.ascontiguousarray(pixels.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))


def _mat(path: Path) -> Split:
    from scipy.io import loadmat  # slow to import, and only SVHN needs it

    with _naming(path):
        content = loadmat(path)
        digits = _whole(content["y"].reshape(-1))
        images = np.ascontiguousarray(np.moveaxis(content["X"], -1, 0))
        return images, np.where(digits == 10, np.int32(0), digits)


class _ArraysOnly(pickle.Unpickler):
    """Unpickles numpy arrays and Python's plain containers; a pickle could otherwise run any code."""

    def find_class(self, module_name: str, global_name: str, /) -> Any:
        if (home := _PICKLED_ARRAY.get((module_name, global_name))) is None:
            raise pickle.UnpicklingError(
                f"the pickle asks for {module_name}.{global_name}, which is no array"
            )
        return super().find_class(home, global_name)
