import gzip
import os
import pickle

import numpy as np
import pytest

from cnnjax.data.archives import read_idx
from cnnjax.data.specs import spec
from cnnjax.errors import UserError

IDX = [f"{name}-ubyte.gz" for name in ("train-images-idx3", "train-labels-idx1")]
IDX += [f"{name}-ubyte.gz" for name in ("t10k-images-idx3", "t10k-labels-idx1")]


def assert_same(found, expected):
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other, strict=True)


def read_packing(name, number, *paths):
    return spec(name).packings[number].read(*paths)


def test_idx(tmp_path, tiny, write_idx):
    arrays = tiny((28, 28, 1), 10)
    write_idx(tmp_path, arrays)
    assert_same(read_idx(*(tmp_path / name for name in IDX)), arrays)


@pytest.mark.parametrize(("number", "packing"), [(0, "binary"), (1, "python")])
@pytest.mark.parametrize(("name", "classes"), [("cifar10", 10), ("cifar100", 100)])
def test_cifar(tmp_path, tiny, write_cifar, name, classes, number, packing):
    arrays = tiny((32, 32, 3), classes)
    assert_same(read_packing(name, number, write_cifar(tmp_path, name, packing, arrays)), arrays)


def test_svhn_stores_the_digit_0_as_10(tmp_path, tiny, write_svhn):
    arrays = tiny((32, 32, 3), 10)
    assert (arrays[1] == 0).any()
    write_svhn(tmp_path, arrays)
    found = read_packing("svhn_cropped", 0, tmp_path / "train_32x32.mat", tmp_path / "test_32x32.mat")
    assert_same(found, arrays)


def test_idx_header_must_fit_the_content(tmp_path, tiny, write_idx):
    write_idx(tmp_path, tiny((28, 28, 1), 10))
    path = tmp_path / IDX[0]
    content = gzip.decompress(path.read_bytes())
    path.write_bytes(gzip.compress(content[:-1]))
    with pytest.raises(UserError, match=rf"{IDX[0]}.*promises 15680 bytes of data, it holds 15679"):
        read_idx(*(tmp_path / name for name in IDX))
    path.write_bytes((tmp_path / IDX[1]).read_bytes())
    with pytest.raises(UserError, match=rf"{IDX[0]}.*0x00000801 where 0x00000803"):
        read_idx(*(tmp_path / name for name in IDX))
    path.write_bytes(gzip.compress(b"\0\0"))
    with pytest.raises(UserError, match=IDX[0]):
        read_idx(*(tmp_path / name for name in IDX))


@pytest.mark.parametrize("kept", [0, 1, 9, 1000, -1])
def test_truncated_gzip_is_named(tmp_path, tiny, write_idx, kept):
    write_idx(tmp_path, tiny((28, 28, 1), 10))
    path = tmp_path / IDX[2]
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(UserError, match=rf"{IDX[2]} is damaged or of another format.*fetch it again"):
        read_idx(*(tmp_path / name for name in IDX))


@pytest.mark.parametrize("packing", ["binary", "python"])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_truncated_tar_is_named(tmp_path, tiny, write_cifar, packing, share):
    path = write_cifar(tmp_path, "cifar10", packing, tiny((32, 32, 3), 10))
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(UserError, match=rf"cifar-10-{packing}.tar.gz is damaged"):
        read_packing("cifar10", ["binary", "python"].index(packing), path)


def test_cifar_records_must_be_whole(tmp_path, write_tar):
    names = [*(f"data_batch_{number}.bin" for number in range(1, 6)), "test_batch.bin"]
    files = {f"cifar-10-batches-bin/{name}": bytes(3073) for name in names}
    files["cifar-10-batches-bin/data_batch_3.bin"] = bytes(3072)
    path = write_tar(tmp_path / "cifar-10-binary.tar.gz", files)
    with pytest.raises(UserError, match="3072 bytes are not a whole number of 3073-byte records"):
        read_packing("cifar10", 0, path)
    del files["cifar-10-batches-bin/data_batch_3.bin"], files["cifar-10-batches-bin/test_batch.bin"]
    with pytest.raises(UserError, match=r"it holds no data_batch_3.bin, test_batch.bin"):
        read_packing("cifar10", 0, write_tar(path, files))


class Intruder:
    def __reduce__(self):
        return os.mkdir, ("intruded",)


def test_pickles_run_no_code(tmp_path, monkeypatch, write_tar):
    monkeypatch.chdir(tmp_path)
    harmful = pickle.dumps({b"data": Intruder(), b"fine_labels": [0]}, protocol=2)
    path = write_tar(tmp_path / "cifar-100-python.tar.gz", {"x/train": harmful, "x/test": harmful})
    with pytest.raises(UserError, match=r"the pickle asks for posix.mkdir, which is no array"):
        read_packing("cifar100", 1, path)
    assert not (tmp_path / "intruded").exists()


@pytest.mark.parametrize("content", [b"", b"not matlab", bytes(200), b"MATLAB 5.0 MAT-file" + bytes(105)])
def test_unreadable_mat_is_named(tmp_path, tiny, write_svhn, content):
    write_svhn(tmp_path, tiny((32, 32, 3), 10))
    (tmp_path / "test_32x32.mat").write_bytes(content)
    with pytest.raises(UserError, match=r"test_32x32\.mat is damaged"):
        read_packing("svhn_cropped", 0, tmp_path / "train_32x32.mat", tmp_path / "test_32x32.mat")


def test_truncated_mat_is_named(tmp_path, tiny, write_svhn):
    write_svhn(tmp_path, tiny((32, 32, 3), 10))
    path = tmp_path / "train_32x32.mat"
    path.write_bytes(path.read_bytes()[:-5000])
    with pytest.raises(UserError, match=r"train_32x32\.mat is damaged"):
        read_packing("svhn_cropped", 0, path, tmp_path / "test_32x32.mat")


def test_a_file_that_cannot_be_opened_is_not_called_damaged(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_packing("cifar10", 0, tmp_path / "absent.tar.gz")
