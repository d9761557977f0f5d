"""Files of weights; tests/reference/make_torchvision_reference.py made the two of PyTorch's."""

import io
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from cnnjax.errors import UserError
from cnnjax.interop.files import read_weights

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
        (pickle.dumps({"a": Code()}), "builtins.exec"),
        (pickle.dumps({"a": 1}), "dictionary of tensors"),
        (pickle.dumps([1, 2]), "dictionary of tensors"),
        (b"\x80\x02", "can be read"),
    ],
)
def test_what_is_no_weight_is_refused(tmp_path, content, message):
    with pytest.raises(UserError, match=message):
        read_weights(archive(tmp_path / "weights.pth", content))


@pytest.mark.parametrize("form", ["archive", "stream"])
@pytest.mark.parametrize("keep", [0, 1, 100, 300, 600])
def test_a_damaged_file_is_one_line(tmp_path, form, keep):
    path = tmp_path / "weights.pth"
    path.write_bytes((FOLDER / f"{form}.pth").read_bytes()[:keep])
    with pytest.raises(UserError) as error:
        read_weights(path)
    assert "\n" not in str(error.value)


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


def test_a_missing_file_says_so(tmp_path):
    for name in ("weights.pth", "weights.safetensors"):
        with pytest.raises(FileNotFoundError):
            read_weights(tmp_path / name)
    (tmp_path / "weights.safetensors").write_bytes(b"damaged")
    with pytest.raises(UserError, match="can be read"):
        read_weights(tmp_path / "weights.safetensors")
