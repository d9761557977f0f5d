"""Read arrays from files of weights: PyTorch's `.pth`, without PyTorch, `.safetensors`, Keras's, Caffe's.

A `.pth` file is a pickle, which can run any code. This reader builds only tensors, numbers, strings and
containers; of everything else it keeps just the name, and it refuses such things among the weights. It reads
both formats that `torch.save` writes: an archive (since PyTorch 1.6) and the older stream.
"""

import collections
import io
import math
import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import ml_dtypes
import numpy as np
from safetensors.numpy import load_file

from cnnjax.errors import UserError
from cnnjax.interop import caffemodel, hdf5

DTYPES = {
    "DoubleStorage": np.float64, "FloatStorage": np.float32, "HalfStorage": np.float16,
    "BFloat16Storage": ml_dtypes.bfloat16, "LongStorage": np.int64, "IntStorage": np.int32,
    "ShortStorage": np.int16, "CharStorage": np.int8, "ByteStorage": np.uint8, "BoolStorage": np.bool_,
}  # fmt: skip
MAGIC = 0x1950A86A20F9469CFC6C  # what the older stream begins with


def read_weights(path: str | Path, entry: str | None = None) -> dict[str, np.ndarray]:
    """Read arrays by name from a file of PyTorch, safetensors, Keras or Caffe; its content says which.

    Args:
        path: path of the file.
        entry: the entry to read, if a training checkpoint holds the weights of several networks.

    Raises:
        UserError: the file is damaged, or holds something other than names and tensors.
    """
    with open(path, "rb") as file:  # a missing file says so itself
        try:
            return _read(file, entry)
        except UserError as error:
            raise UserError(f"{path}: {error}") from None
        except Exception as error:  # a damaged pickle can raise anything
            reason = " ".join(str(error).split()) or type(error).__name__
            raise UserError(
                f"{path} is no file of weights that can be read: it is cut short, damaged or of another "
                f"format ({reason}); fetch it again"
            ) from None


def _read(file: BinaryIO, entry: str | None) -> dict[str, np.ndarray]:
    start = file.read(9)
    if start[8:] == b"{":  # safetensors: the length of a JSON header, and the header
        return dict(weights_in(load_file(file.name), entry))
    if not start:
        raise ValueError("it is empty")
    file.seek(0)
    if start.startswith(hdf5.MAGIC):
        return hdf5.read_keras(file)
    if zipfile.is_zipfile(file):
        return _read_archive(file, entry)
    if start.startswith(b"PK"):
        raise ValueError("its end is not there")
    file.seek(0)
    if start[0] in caffemodel.FIRST_BYTES:
        return caffemodel.read_caffe(file)
    return _read_stream(file, entry)


def weights_in(content: Any, entry: str | None = None) -> Mapping[str, Any]:
    """Find the tensors by name: `content` itself, or an entry of it, if it is a training checkpoint.

    Raises:
        UserError: there are none, or several entries have some and `entry` does not say which.
    """
    if not isinstance(content, Mapping):
        raise UserError(f"it holds {_described(content)}, not a state_dict: {_SAVE}")
    if entry is not None:
        if entry not in content:
            raise UserError(f"it has no entry {entry!r}; there are: {', '.join(map(str, content))}")
        return weights_in(content[entry])
    inner = [
        key
        for key, value in content.items()
        # A layer's name has dots, an optimizer's entries have none.
        if isinstance(value, Mapping) and _are_tensors(value) and any("." in str(name) for name in value)
    ]
    if len(inner) == 1:
        return content[inner[0]]
    if inner:
        raise UserError(
            f"it holds weights as {' and as '.join(map(repr, inner))}: choose one, as in "
            f"from_torchvision(name, read_weights(path, {inner[0]!r}))"
        )
    if not _are_tensors(content):
        key, value = next(item for item in content.items() if not _is_named_tensor(item))
        raise UserError(f"it holds {_described(value)} as {key!r}, not only names and tensors: {_SAVE}")
    return content


_SAVE = "save the network's alone, by torch.save(model.state_dict(), path)"


def _are_tensors(content: Mapping[Any, Any]) -> bool:
    return all(map(_is_named_tensor, content.items()))


def _is_named_tensor(item: tuple[Any, Any]) -> bool:
    return isinstance(item[0], str) and hasattr(item[1], "shape") and hasattr(item[1], "dtype")


def _described(value: Any) -> str:
    kind = value if isinstance(value, type) else type(value)
    return kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


class _Tensor(NamedTuple):
    """What a pickle says about a tensor; the numbers are elsewhere in the file."""

    storage: tuple[str, Any]  # its key and its numbers' type
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    @property
    def dtype(self) -> Any:
        """The numbers' type."""
        return self.storage[1]

    def array(self, storages: Mapping[str, bytes]) -> np.ndarray:
        """Its numbers, out of the storages by key."""
        key, dtype = self.storage
        values = np.frombuffer(storages[key], _numbers(dtype))
        last = self.offset + sum((n - 1) * step for n, step in zip(self.shape, self.strides, strict=True))
        if (
            min((self.offset, *self.shape, *self.strides)) < 0
            or (0 not in self.shape and last >= len(values))
            or math.prod(self.shape) > len(values)
        ):
            raise ValueError("a tensor reaches beyond its storage")
        strides = [step * values.itemsize for step in self.strides]
        return np.lib.stride_tricks.as_strided(values[self.offset :], self.shape, strides).copy()


class _Other:
    """Stands for an object of any other class: it takes whatever a pickle gives it, and does nothing."""

    def __new__(cls, *_: Any, **__: Any) -> "_Other":
        return super().__new__(cls)

    def _ignore(self, *_: Any) -> None: ...

    __init__ = __setstate__ = __setitem__ = append = extend = add = _ignore


def _numbers(dtype: Any) -> np.dtype:
    """Numpy's type of a storage's numbers."""
    if dtype not in DTYPES.values():
        raise ValueError(f"numbers in a {_described(dtype)} cannot be read")
    return np.dtype(dtype)


class _Unpickler(pickle.Unpickler):
    """Rebuilds what `torch.save` wrote of tensors and containers, and notes the storages they refer to."""

    def __init__(self, file: Any):
        super().__init__(file)
        self.dtypes: dict[str, Any] = {}

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return lambda storage, offset, shape, strides, *_: _Tensor(storage, offset, shape, strides)
        if module == "torch._utils" and name in ("_rebuild_parameter", "_rebuild_parameter_with_state"):
            return lambda tensor, *_: tensor
        if module == "torch" and name in DTYPES:
            return DTYPES[name]
        return type(name, (_Other,), {"__module__": module, "__qualname__": name})

    def persistent_load(self, pid: Any) -> Any:
        _, dtype, key, *_ = pid
        self.dtypes[key] = dtype
        return key, dtype


def _read_archive(file: BinaryIO, entry: str | None) -> dict[str, np.ndarray]:
    with zipfile.ZipFile(file) as archive:
        if hdf5.IN_ARCHIVE in archive.namelist():
            return hdf5.read_keras(io.BytesIO(archive.read(hdf5.IN_ARCHIVE)))
        (index,) = (name for name in archive.namelist() if name.endswith("data.pkl"))
        folder = index.removesuffix("data.pkl")
        tensors = weights_in(_Unpickler(io.BytesIO(archive.read(index))).load(), entry)
        keys = {tensor.storage[0] for tensor in tensors.values()}
        storages = {key: archive.read(f"{folder}data/{key}") for key in keys}
    return {name: tensor.array(storages) for name, tensor in tensors.items()}


def _read_stream(file: BinaryIO, entry: str | None) -> dict[str, np.ndarray]:
    if _Unpickler(file).load() != MAGIC:
        raise ValueError("PyTorch's files begin otherwise")
    for _ in ("version", "machine"):
        _Unpickler(file).load()
    unpickler = _Unpickler(file)
    tensors = weights_in(unpickler.load(), entry)
    storages = {}
    for key in _Unpickler(file).load():
        numbers = int.from_bytes(file.read(8), "little")
        storages[key] = file.read(numbers * _numbers(unpickler.dtypes[key]).itemsize)
    return {name: tensor.array(storages) for name, tensor in tensors.items()}
