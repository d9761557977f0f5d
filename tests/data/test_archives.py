import gzip
import os
import pickle
import tarfile

import numpy as np
import pytest
from scipy.io import savemat

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


def test_what_was_unpacked_by_hand(tmp_path, tiny, write_idx, write_cifar):
    arrays = tiny((28, 28, 1), 10)
    write_idx(tmp_path, arrays)
    for name in IDX:  # under the published name too, as a browser leaves it
        (tmp_path / name).write_bytes(gzip.decompress((tmp_path / name).read_bytes()))
    assert_same(read_idx(*(tmp_path / name for name in IDX)), arrays)
    arrays = tiny((32, 32, 3), 100)
    for number, (packing, inner) in enumerate(
        (("binary", "cifar-100-binary"), ("python", "cifar-100-python"))
    ):
        with tarfile.open(write_cifar(tmp_path, "cifar100", packing, arrays)) as tar:
            tar.extractall(tmp_path, filter="data")
        assert_same(read_packing("cifar100", number, tmp_path / inner), arrays)
    (tmp_path / inner / "test").unlink()
    with pytest.raises(UserError, match=r"cifar-100-python is damaged or .*it holds no test"):
        read_packing("cifar100", 1, tmp_path / inner)


def rewritten(labels, protocol=2, key=b"%s", pixels=None):
    """A CIFAR-100 archive's files as a script for noisy labels writes them again."""
    pixels = np.arange(3 * 3072, dtype=np.uint8).reshape(3, 3072) if pixels is None else pixels
    names = [b"data", b"fine_labels"] if isinstance(key, bytes) else ["data", "fine_labels"]
    content = pickle.dumps(dict(zip(names, (pixels, labels), strict=True)), protocol=protocol)
    return {"cifar-100-python/train": content, "cifar-100-python/test": content}


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
@pytest.mark.parametrize("key", [b"bytes", "text"])
@pytest.mark.parametrize(
    "labels",
    [
        [1, 2, 3],
        [np.int64(1), np.int64(2), np.int64(3)],
        np.array([1, 2, 3], np.uint8),
        np.array([1.0, 2.0, 3.0]),
        (1, 2, 3),
    ],
)
def test_labels_written_again_are_whole_numbers(tmp_path, write_tar, labels, key, protocol):
    path = write_tar(tmp_path / "cifar-100-python.tar.gz", rewritten(labels, protocol, key))
    images, found, *_ = read_packing("cifar100", 1, path)
    np.testing.assert_array_equal(found, np.array([1, 2, 3], np.int32), strict=True)
    assert (images[1, 0, 0] == [3072 % 256, 4096 % 256, 5120 % 256]).all()


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([0, 1, 1.5], r"image 2 \(counted from 0\) has label 1\.5, no whole number"),
        ([0, float("nan"), 1], r"image 1 .* has label nan"),
        ([0, 1, 2**40], r"image 2 .* has label 1099511627776"),
        ([True, False, True], r"labels are bool of shape \(3,\), not whole numbers"),
        (["a", "b", "c"], "labels are <U1 of shape"),
        (np.eye(3), r"labels are float64 of shape \(3, 3\)"),
        ([0, [1], 2], "inhomogeneous"),
    ],
)
def test_labels_that_are_none_are_refused(tmp_path, write_tar, labels, message):
    path = write_tar(tmp_path / "cifar-100-python.tar.gz", rewritten(labels))
    with pytest.raises(UserError, match=message):
        read_packing("cifar100", 1, path)


def test_pixels_in_another_order_are_not_scrambled(tmp_path, write_tar):
    files = rewritten([1, 2, 3], pixels=np.zeros((3, 32, 32, 3), np.uint8))
    path = write_tar(tmp_path / "cifar-100-python.tar.gz", files)
    with pytest.raises(UserError, match=r"images have shape \(3, 32, 32, 3\), not \[image, 3072\]"):
        read_packing("cifar100", 1, path)


def test_fractions_in_a_mat_file(tmp_path, tiny, write_svhn):
    write_svhn(tmp_path, tiny((32, 32, 3), 10))
    savemat(
        tmp_path / "test_32x32.mat", {"X": np.zeros((32, 32, 3, 2), np.uint8), "y": np.array([[1.0], [2.5]])}
    )
    with pytest.raises(UserError, match=r"test_32x32\.mat is damaged .*image 1 .* has label 2\.5"):
        read_packing("svhn_cropped", 0, tmp_path / "train_32x32.mat", tmp_path / "test_32x32.mat")


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
