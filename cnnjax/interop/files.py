"""Files of weights to arrays: PyTorch's `.pth`, read without PyTorch, and `.safetensors`.

A `.pth` file is a pickle, which can run any code. This reader builds tensors, numbers, strings and containers
and refuses everything else. It reads both forms that `torch.save` writes: an archive (since PyTorch 1.6) and
the older stream.
"""

import collections
import io
import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import ml_dtypes
import numpy as np
from safetensors.numpy import load_file

from cnnjax.errors import UserError

DTYPES = {
    "DoubleStorage": np.float64, "FloatStorage": np.float32, "HalfStorage": np.float16,
    "BFloat16Storage": ml_dtypes.bfloat16, "LongStorage": np.int64, "IntStorage": np.int32,
    "ShortStorage": np.int16, "CharStorage": np.int8, "ByteStorage": np.uint8, "BoolStorage": np.bool_,
}  # fmt: skip
MAGIC = 0x1950A86A20F9469CFC6C  # what the older stream begins with


def read_weights(path: str | Path) -> dict[str, np.ndarray]:
    """Names to arrays, from a file that ends in `.safetensors`, or any other: then it is PyTorch's.

    Raises:
        UserError: the file is damaged, or holds something else than names and tensors.
    """
    try:
        if str(path).endswith(".safetensors"):
            return load_file(path)
        with open(path, "rb") as file:
            read = _read_archive if zipfile.is_zipfile(file) else _read_stream
            file.seek(0)
            return read(file)
    except OSError:
        raise  # a missing file says so itself
    except Exception as error:  # a damaged pickle can raise anything
        raise UserError(f"{path}: no file of weights that can be read: {error}") from None


class _Tensor(NamedTuple):
    """What a pickle says of a tensor; the numbers lie elsewhere in the file."""

    storage: tuple[str, Any]  # its key and its numbers' type
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def array(self, storages: Mapping[str, bytes]) -> np.ndarray:
        """Its numbers, out of the storages by key."""
        key, dtype = self.storage
        values = np.frombuffer(storages[key], dtype)
        last = self.offset + sum((n - 1) * step for n, step in zip(self.shape, self.strides, strict=True))
        if (
            min(self.strides, default=0) < 0
            or self.offset < 0
            or (0 not in self.shape and last >= len(values))
        ):
            raise ValueError("a tensor reaches beyond its storage")
        strides = [step * values.itemsize for step in self.strides]
        return np.lib.stride_tricks.as_strided(values[self.offset :], self.shape, strides).copy()


class _Unpickler(pickle.Unpickler):
    """Builds what `torch.save` makes of a dictionary of tensors."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return lambda storage, offset, shape, strides, *_: _Tensor(storage, offset, shape, strides)
        if (module, name) == ("torch._utils", "_rebuild_parameter"):
            return lambda tensor, *_: tensor
        if module == "torch" and name in DTYPES:
            return DTYPES[name]
        raise pickle.UnpicklingError(f"it holds {module}.{name}, which is no weight")

    def persistent_load(self, pid: Any) -> Any:
        _, dtype, key, *_ = pid
        return key, dtype


def _read_archive(file: BinaryIO) -> dict[str, np.ndarray]:
    with zipfile.ZipFile(file) as archive:
        (index,) = (name for name in archive.namelist() if name.endswith("data.pkl"))
        folder = index.removesuffix("data.pkl")
        tensors = _named(_Unpickler(io.BytesIO(archive.read(index))).load())
        keys = {tensor.storage[0] for tensor in tensors.values()}
        storages = {key: archive.read(f"{folder}data/{key}") for key in keys}
    return {name: tensor.array(storages) for name, tensor in tensors.items()}


def _read_stream(file: BinaryIO) -> dict[str, np.ndarray]:
    if _Unpickler(file).load() != MAGIC:
        raise ValueError("PyTorch's files begin otherwise")
    for _ in ("version", "machine"):
        _Unpickler(file).load()
    tensors = _named(_Unpickler(file).load())
    dtypes = {key: dtype for key, dtype in (tensor.storage for tensor in tensors.values())}
    storages = {}
    for key in _Unpickler(file).load():
        numbers = int.from_bytes(file.read(8), "little")
        storages[key] = file.read(numbers * np.dtype(dtypes[key]).itemsize)
    return {name: tensor.array(storages) for name, tensor in tensors.items()}


def _named(content: Any) -> dict[str, _Tensor]:
    if not isinstance(content, dict) or not all(isinstance(value, _Tensor) for value in content.values()):
        raise ValueError("it must hold a dictionary of tensors: `torch.save(model.state_dict(), path)`")
    return content
