"""Tar files as webdataset writes them."""

import io
import tarfile

import numpy as np
import pytest

from cnnjax.data import open_stream
from cnnjax.data.check import check_folder
from cnnjax.data.rows import TrainingRows
from cnnjax.data.shards import ShardRecords
from cnnjax.errors import UserError
from tests.data.odd_pictures import encode, picture


def shard(path, *members):
    """Write a tar file of (name, bytes)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, content in members:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))


def examples(*numbers):
    for number in numbers:
        yield f"deep/{number:03}.png", encode(picture(number), "png")
        yield f"deep/{number:03}.cls", b"%d\n" % (number % 3)
        yield f"deep/{number:03}.json", b"{}"


def make(root):
    shard(root / "train" / "000.tar", *examples(0, 1, 2))
    shard(root / "train" / "001.tar", *examples(3, 4))
    shard(root / "val" / "000.tar", *examples(7))
    return root


def test_tar_files_are_a_data_set(tmp_path):
    stream = open_stream(str(make(tmp_path)))
    assert (len(stream.train), len(stream.test), stream.classes) == (5, 1, 3)
    for index in (3, 0, 4, 2, 1):  # in any order
        assert stream.train[index] == (encode(picture(index), "png"), index % 3)
    assert stream.train.name(3) == f"{tmp_path}/train/001.tar:deep/003.png"
    images, labels = TrainingRows(stream.train, [0], 4, range(4), "none", 8)(0)
    assert images.shape == (1, 1, 4, 8, 8, 3)
    assert set(labels.flat) <= {0, 1, 2}
    part = stream.split(2, seed=0)
    assert (len(part.train), len(part.test)) == (3, 2)


def test_how_examples_are_divided_makes_no_difference(tmp_path):
    one = open_stream(str(make(tmp_path / "one")))
    shard(tmp_path / "other" / "train" / "0.tar", *examples(0, 1, 2, 3, 4))
    shard(tmp_path / "other" / "val" / "0.tar", *examples(7))
    assert open_stream(str(tmp_path / "other")).digest == one.digest
    shard(tmp_path / "other" / "val" / "0.tar", *examples(8))
    assert open_stream(str(tmp_path / "other")).digest != one.digest


def test_without_a_test_split_some_are_held_out(tmp_path):
    shard(tmp_path / "train" / "0.tar", *examples(0, 1, 2))
    assert str(open_stream(str(tmp_path))).endswith("; no test pictures: hold some out by --validation N")


def test_odd_pictures_in_tar_files_are_told_and_skipped(tmp_path):
    make(tmp_path)
    grey = encode(picture(5).convert("L"), "png")
    odd = ("a.png", b""), ("a.cls", b"1"), ("b.png", grey), ("b.cls", b"2")
    shard(tmp_path / "train" / "002.tar", *odd)
    report = check_folder(tmp_path)
    place = f"{tmp_path}/train/002.tar"
    assert {one.path: one.kinds for one in report.findings} == {
        f"{place}:a.png": ("empty",),
        f"{place}:b.png": ("grey",),
    }
    rest = open_stream(str(tmp_path)).readable()
    assert (len(rest.train), rest.skipped) == (6, (f"{place}:a.png: empty (no bytes)",))


def test_what_is_wrong_with_a_tar_file_is_one_line(tmp_path):
    train = tmp_path / "train" / "0.tar"

    def refused(message):
        with pytest.raises(UserError, match=message) as told:
            open_stream(str(tmp_path))
        assert "\n" not in str(told.value)

    shard(train, ("a.jpg", b"x"))
    refused(r"0\.tar: a\.jpg has no label: there is no a\.cls")
    shard(train, ("a.jpg", b"x"), ("a.cls", b"cat"))
    refused(r"0\.tar is no whole, uncompressed tar file .*invalid literal")
    shard(train, ("a.txt", b"x"))
    refused(r"0\.tar holds no pictures")
    train.write_bytes(np.random.default_rng(0).bytes(5000))
    refused(r"0\.tar is no whole, uncompressed tar file")
    shard(train, *examples(0, 1))
    train.write_bytes(train.read_bytes()[:700])
    refused(r"0\.tar is no whole, uncompressed tar file")
    shard(train, *examples(0, 1))
    shard(tmp_path / "val" / "0.tar", *examples(2))
    refused(r"val/0\.tar:deep/002\.png: its label is 2; those of .*train are from 0 to 1")


def test_no_tar_files_are_no_examples():
    assert len(ShardRecords([])) == 0
