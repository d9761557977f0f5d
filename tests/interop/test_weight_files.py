"""Files of weights; tests/reference/make_torchvision_reference.py made the two of PyTorch's."""

import argparse
import collections
import io
import pickle
import struct
import sys
import types
import zipfile
from fractions import Fraction
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file

from cnnjax.errors import UserError
from cnnjax.interop.files import MAGIC, read_weights, weights_in

FOLDER = Path(__file__).parent.parent / "reference"


@pytest.mark.parametrize("form", ["archive", "stream"])
def test_pytorch_files(form):
    """Views into one storage, a parameter and half precision."""
    weights = read_weights(FOLDER / f"{form}.pth")
    halves = np.arange(6, dtype=np.float16).reshape(2, 3)
    expected = {"first": halves.T, "second": halves[1:].astype(np.float32), "third": halves[0, 1:]}
    assert set(weights) == set(expected)
    for name, value in expected.items():
        assert weights[name].dtype == value.dtype
        np.testing.assert_array_equal(weights[name], value)


def test_safetensors(tmp_path):
    weights = {"a": np.arange(6, dtype=np.float32).reshape(2, 3)}
    save_file(weights, tmp_path / "weights.safetensors")
    np.testing.assert_array_equal(read_weights(tmp_path / "weights.safetensors")["a"], weights["a"])


def archive(path, content):
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("archive/data.pkl", content)
    return path


class Code:
    def __reduce__(self):
        return exec, ("raise SystemExit('this must not run')",)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (pickle.dumps({"a": Code()}), "it holds exec as 'a', not only names and tensors: save the network's"),
        (pickle.dumps({"a": 1}), "it holds int as 'a'"),
        (pickle.dumps([1, 2]), "it holds list, not a state_dict"),
        (pickle.dumps(Fraction(1, 3)), "it holds fractions.Fraction, not a state_dict"),
        (b"\x80\x02", "can be read"),
    ],
)
def test_what_is_no_weight_is_refused(tmp_path, content, message):
    with pytest.raises(UserError, match=message):
        read_weights(archive(tmp_path / "weights.pth", content))


@pytest.mark.parametrize("form", ["archive", "stream", "safetensors"])
@pytest.mark.parametrize("keep", [0, 1, 8, 9, 60, 300, 600])
def test_a_file_cut_short_is_one_line(tmp_path, form, keep):
    path = tmp_path / "weights.pth"
    if form == "safetensors":
        save_file({"a": np.zeros(1000, np.float32)}, path)
    else:
        path.write_bytes((FOLDER / f"{form}.pth").read_bytes())
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(UserError, match=r"weights.pth is no file .*: it is cut short, damaged or") as error:
        read_weights(path)
    assert "\n" not in str(error.value)


class Stored:
    """Stands for a torch tensor: pickled as torch does it, its numbers apart."""

    def __init__(self, array, kind="FloatStorage"):
        self.array, self.kind = np.ascontiguousarray(array), kind

    def __reduce__(self):
        steps = tuple(step // self.array.itemsize for step in self.array.strides)
        return _rebuild_tensor_v2, (self.Storage(self), 0, self.array.shape, steps, False, {})

    class Storage:
        def __init__(self, tensor):
            self.tensor = tensor


def _rebuild_tensor_v2(*_):
    raise NotImplementedError


_rebuild_tensor_v2.__module__ = "torch._utils"


class Repeating(Stored):
    """Four numbers as a tensor of a hundred times four."""

    def __init__(self):
        super().__init__(np.ones(4, np.float32))

    def __reduce__(self):
        return _rebuild_tensor_v2, (self.Storage(self), 0, (100, 4), (0, 1), False, {})


@pytest.fixture
def torch_save(monkeypatch, tmp_path):
    """`torch.save` in either form, without torch."""
    utils = types.SimpleNamespace(_rebuild_tensor_v2=_rebuild_tensor_v2)
    kinds = {name: type(name, (), {"__module__": "torch"}) for name in ("FloatStorage", "ComplexStorage")}
    monkeypatch.setitem(sys.modules, "torch", types.SimpleNamespace(**kinds))
    monkeypatch.setitem(sys.modules, "torch._utils", utils)

    def save(content, form="archive"):
        tensors, buffer = [], io.BytesIO()

        class Pickler(pickle.Pickler):
            def persistent_id(self, value):
                if isinstance(value, Stored.Storage):
                    tensors.append(value.tensor)
                    return "storage", kinds[value.tensor.kind], str(len(tensors) - 1), "cpu", 0
                return None

        Pickler(buffer, 2).dump(content)
        path = tmp_path / "weights.pth"
        if form == "archive":
            with zipfile.ZipFile(path, "w") as file:
                file.writestr("archive/data.pkl", buffer.getvalue())
                for key, tensor in enumerate(tensors):
                    file.writestr(f"archive/data/{key}", tensor.array.tobytes())
        else:
            head = b"".join(pickle.dumps(value, 2) for value in (MAGIC, 1001, {"little_endian": True}))
            keys = pickle.dumps([str(key) for key in range(len(tensors))], 2)
            numbers = (struct.pack("<q", one.array.size) + one.array.tobytes() for one in tensors)
            path.write_bytes(head + buffer.getvalue() + keys + b"".join(numbers))
        return path

    return save


WEIGHTS = {"fc.weight": np.arange(6, dtype=np.float32).reshape(2, 3), "fc.bias": np.ones(2, np.float32)}
STORED = {name: Stored(value) for name, value in WEIGHTS.items()}
AROUND = {
    "epoch": 3,
    "best": np.float64(71.2),
    "optimizer": {"state": {0: {"momentum_buffer": Stored(np.zeros(5, np.float32))}}, "param_groups": [{}]},
    "args": argparse.Namespace(lr=0.1, layers=[1, 2]),
    "log": collections.defaultdict(list, loss=[1.0]),
    "queue": collections.deque([1, 2]),
}


@pytest.mark.parametrize("form", ["archive", "stream"])
@pytest.mark.parametrize("entry", ["state_dict", "model", "model_state_dict", "ema"])
def test_the_weights_in_a_training_checkpoint(torch_save, form, entry):
    weights = read_weights(torch_save({**AROUND, entry: STORED}, form))
    assert set(weights) == set(WEIGHTS)
    for name, value in WEIGHTS.items():
        np.testing.assert_array_equal(weights[name], value)


def test_of_several_weights_one_is_chosen(torch_save):
    other = {name: Stored(-tensor.array) for name, tensor in STORED.items()}
    path = torch_save({**AROUND, "model": STORED, "model_ema": other})
    with pytest.raises(
        UserError, match=r"weights as 'model' and as 'model_ema': choose one.*path, 'model'\)"
    ):
        read_weights(path)
    np.testing.assert_array_equal(read_weights(path, "model_ema")["fc.bias"], [-1, -1])
    with pytest.raises(UserError, match="no entry 'net'; there are: epoch, best,"):
        read_weights(path, "net")
    with pytest.raises(UserError, match="it holds int, not a state_dict"):
        read_weights(path, "epoch")


@pytest.mark.parametrize("form", ["archive", "stream"])
def test_numbers_of_a_kind_that_is_not_read(torch_save, form):
    odd = {**STORED, "fc.phase": Stored(np.zeros(3, np.complex64), "ComplexStorage")}
    with pytest.raises(UserError, match=r"numbers in a torch\.ComplexStorage cannot be read"):
        read_weights(torch_save(odd, form))


def test_a_mapping_of_weights_is_as_a_file():
    assert weights_in({"epoch": 3, "model": WEIGHTS}) is WEIGHTS
    assert weights_in(WEIGHTS) is WEIGHTS
    with pytest.raises(UserError, match="it holds int as 'epoch'"):
        weights_in({**WEIGHTS, "epoch": 3})
    with pytest.raises(UserError, match=r"it holds numpy\.ndarray as 1"):
        weights_in({1: WEIGHTS["fc.bias"]})
    with pytest.raises(UserError, match="it holds NoneType, not a state_dict"):
        weights_in(None)


def test_the_format_is_told_by_the_content(tmp_path):
    weights = {"a": np.arange(3).astype(ml_dtypes.bfloat16)}
    save_file(weights, tmp_path / "weights.bin")
    assert read_weights(tmp_path / "weights.bin")["a"].dtype == ml_dtypes.bfloat16
    (tmp_path / "weights.safetensors").write_bytes((FOLDER / "archive.pth").read_bytes())
    assert set(read_weights(tmp_path / "weights.safetensors")) == {"first", "second", "third"}


def test_a_tensor_beyond_its_storage_is_refused(tmp_path):
    """Such a file would otherwise show memory that is not its own."""
    original = (FOLDER / "archive.pth").read_bytes()
    path = tmp_path / "weights.pth"
    with zipfile.ZipFile(io.BytesIO(original)) as old, zipfile.ZipFile(path, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            new.writestr(name, content[:4] if "/data/" in name else content)
    with pytest.raises(UserError, match="beyond its storage"):
        read_weights(path)


def test_another_pickle_is_refused(tmp_path):
    (tmp_path / "weights.pth").write_bytes(pickle.dumps({"fc.weight": [1.0]}))
    with pytest.raises(UserError, match=r"another format \(PyTorch's files begin otherwise\)"):
        read_weights(tmp_path / "weights.pth")


def test_a_tensor_that_repeats_its_storage_is_refused(torch_save):
    """Of a few bytes such a file would make gigabytes."""
    with pytest.raises(UserError, match="beyond its storage"):
        read_weights(torch_save({"fc.weight": Repeating()}))


def test_a_missing_file_says_so(tmp_path):
    for name in ("weights.pth", "weights.safetensors"):
        with pytest.raises(FileNotFoundError):
            read_weights(tmp_path / name)
    (tmp_path / "weights.safetensors").write_bytes(b"damaged")
    with pytest.raises(UserError, match="can be read"):
        read_weights(tmp_path / "weights.safetensors")
