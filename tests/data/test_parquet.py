"""Parquet files as Hugging Face's datasets writes them."""

import json
import pickle

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cnnjax.data import open_stream, parquet
from cnnjax.data.check import check_folder
from cnnjax.data.class_names import class_names
from cnnjax.data.parquet import ParquetRecords
from cnnjax.data.rows import TrainingRows
from cnnjax.errors import UserError
from cnnjax.images import BadPicture
from tests.data.odd_pictures import encode, picture

NAMES = ["cat", "dog", "emu"]


def schema(names, column="image"):
    """What `Dataset.to_parquet` has for the features Image and ClassLabel."""
    features = {column: {"_type": "Image"}, "label": {"names": names, "_type": "ClassLabel"}}
    held = {"huggingface": json.dumps({"info": {"features": features}})} if names else None
    struct = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    return pa.schema({column: struct, "label": pa.int64()}, held)


def write(path, encoded, labels, names=NAMES, column="image", **how):
    path.parent.mkdir(parents=True, exist_ok=True)
    images = [{"bytes": each, "path": f"{number}.png"} for number, each in enumerate(encoded)]
    table = pa.Table.from_pydict({column: images, "label": labels}, schema(names, column))
    pq.write_table(table, path, **{"row_group_size": 2, **how})


def examples(*numbers):
    return [encode(picture(number), "png") for number in numbers], [number % 3 for number in numbers]


def make(root, **how):
    write(root / "data" / "train-00000-of-00002.parquet", *examples(0, 1, 2, 3, 4), **how)
    write(root / "data" / "train-00001-of-00002.parquet", *examples(5, 6, 7), **how)
    write(root / "data" / "validation-00000-of-00001.parquet", *examples(8), **how)
    write(root / "data" / "test-00000-of-00001.parquet", [b"", b""], [-1, -1])  # as ImageNet's
    return root


@pytest.mark.parametrize("how", [{}, {"compression": "none", "use_dictionary": False}, {"column": "img"}])
def test_parquet_files_are_a_data_set(tmp_path, how):
    stream = open_stream(make(tmp_path, **how))
    assert (len(stream.train), len(stream.test), stream.classes) == (8, 1, 3)
    for index in (7, 0, 4, 2, 5, 1, 6, 3):  # in any order
        assert stream.train[index] == (encode(picture(index), "png"), index % 3)
    assert stream.test[0] == (encode(picture(8), "png"), 2)
    assert stream.train.name(4) == f"{tmp_path}/data/train-00000-of-00002.parquet row 4"
    assert stream.train.name(6) == f"{tmp_path}/data/train-00001-of-00002.parquet row 1"
    part = stream.split(2, seed=0)
    assert (len(part.train), len(part.test)) == (6, 2)
    assert class_names(part) == ("cat", "dog", "emu")


def test_the_folder_may_be_that_of_the_files_or_have_one_for_each_split(tmp_path):
    stream = open_stream(make(tmp_path) / "data")
    assert (len(stream.train), len(stream.test)) == (8, 1)
    write(tmp_path / "other" / "train" / "0000.parquet", *examples(0, 1, 2), names=None)
    write(tmp_path / "other" / "test" / "0000.parquet", *examples(4), names=None)
    stream = open_stream(tmp_path / "other")
    assert (len(stream.train), len(stream.test), class_names(stream)) == (3, 1, ("0", "1", "2"))
    write(tmp_path / "one" / "train.parquet", *examples(0, 1, 2))
    assert str(open_stream(tmp_path / "one")).endswith("; no test pictures: hold some out by --validation N")


def test_a_folder_around_it_names_it(tmp_path):
    write(tmp_path / "plain_text" / "train-00000-of-00001.parquet", *examples(0, 1))
    with pytest.raises(UserError, match=r"is no data set itself; name the folder in it, .*plain_text"):
        open_stream(tmp_path)


def test_batches_are_those_of_a_folder_of_files(tmp_path):
    """Which pictures a step sees depends on (seed, step) alone, not on how they are stored."""
    for index in range(8):
        path = tmp_path / "files" / "train" / f"{index % 3}" / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode(picture(index), "png"))
    write(tmp_path / "sorted" / "train.parquet", *examples(0, 3, 6, 1, 4, 7, 2, 5))
    for step in (0, 3):
        ours, theirs = (
            TrainingRows(open_stream(tmp_path / name).train, [1, 2], 5, range(5), "area_crop_flip", 8)(step)
            for name in ("sorted", "files")
        )
        np.testing.assert_array_equal(ours[0], theirs[0])
        np.testing.assert_array_equal(ours[1], theirs[1])


def test_row_groups_are_read_one_by_one_and_the_last_are_kept(tmp_path, monkeypatch):
    records = open_stream(make(tmp_path)).train
    assert isinstance(records, ParquetRecords)
    read, whole = [], pq.ParquetFile.read_row_group

    def counted(self, number, columns, **how):
        read.append((number, columns))
        return whole(self, number, columns, **how)

    monkeypatch.setattr(pq.ParquetFile, "read_row_group", counted)
    assert [records[index][1] for index in range(8)] == [0, 1, 2, 0, 1, 2, 0, 1]
    assert [number for number, _ in read] == [0, 1, 2, 0, 1]  # 2 rows each, and each file's last has one
    assert {column for _, columns in read for column in columns} == {"image.bytes"}
    assert records[0][1] == 0
    assert len(read) == 5
    copied = pickle.loads(pickle.dumps(records))  # as for a worker process
    assert copied[6] == records[6]
    assert len(read) == 6
    monkeypatch.setattr(parquet, "KEPT", 1)
    assert [copied[index][1] for index in (0, 7, 0, 1)] == [0, 1, 0, 1]
    assert len(read) == 9  # one row group is kept at least


def test_what_tells_a_data_set_is_its_files_and_labels(tmp_path):
    one = open_stream(make(tmp_path / "one")).digest
    assert open_stream(make(tmp_path / "other")).digest == one
    write(tmp_path / "other" / "data" / "train-00001-of-00002.parquet", examples(5, 6, 7)[0], [2, 0, 2])
    assert open_stream(tmp_path / "other").digest != one


def test_odd_pictures_are_told_and_skipped(tmp_path):
    make(tmp_path)
    good, grey, cmyk = picture(1), encode(picture(5).convert("L"), "png"), picture(6).convert("CMYK")
    odd = [encode(good, "jpeg")[:-40], b"", None, grey, encode(cmyk, "jpeg"), encode(good, "png")]
    path = tmp_path / "data" / "train-00001-of-00002.parquet"
    write(path, odd, [0, 1, 2, 0, 1, 1])
    kinds = {"damaged": 0, "empty": 1, "grey": 3, "CMYK": 4, "copy": 5}
    report = check_folder(tmp_path)
    found = {(one.path, *one.kinds) for one in report.findings}
    assert found == {
        *((f"{path} row {row}", kind) for kind, row in kinds.items()),
        (f"{path} row 2", "empty"),  # bytes that are null: the file has only a path
    }
    assert (report.pictures, report.lost) == (12, 3)
    rest = open_stream(tmp_path).readable()
    assert len(rest.train) == 8
    assert rest.skipped[1] == f"{path} row 1: empty (no bytes)"


def test_a_damaged_row_group_is_told_by_the_name_of_its_rows(tmp_path):
    path = tmp_path / "train.parquet"
    write(path, *examples(0, 1, 2), compression="snappy")
    start = pq.read_metadata(path).row_group(1).column(0).data_page_offset
    raw = bytearray(path.read_bytes())
    raw[start : start + 60] = bytes(60)
    path.write_bytes(raw)
    report = check_folder(tmp_path)
    assert [(one.path, one.kinds) for one in report.findings] == [(f"{path} row 2", ("unreadable",))]
    with pytest.raises(BadPicture, match=r"row 2 is no picture that can be read \(its row group is damaged"):
        open_stream(tmp_path).train[2]
    assert len(open_stream(tmp_path).readable().train) == 2


def test_what_is_wrong_with_a_file_is_one_line(tmp_path):
    path = tmp_path / "train-00000-of-00002.parquet"

    def refused(message):
        with pytest.raises(UserError, match=message) as told:
            open_stream(tmp_path)
        assert "\n" not in str(told.value)

    write(path, *examples(0, 1))
    refused(r"train-00001-of-00002\.parquet is missing: there must be 2 files")
    second = path.with_name("train-00001-of-00002.parquet")
    write(second, *examples(2, 3), names=["cat", "dog", "fly"])
    refused(r"train-00001-of-00002\.parquet has other classes than .*train-00000-of-00002\.parquet")
    write(second, *examples(2), names=NAMES)
    write(tmp_path / "test.parquet", *examples(4), names=["cat", "dog"])
    refused(r"test\.parquet has other classes than .*train-00000")
    write(tmp_path / "test.parquet", [b""], [3])
    refused(r"test\.parquet row 0: its label is 3; those of .* are from 0 to 2")
    write(second, examples(2, 3)[0], [1, None])
    refused(r"train-00001-of-00002\.parquet row 1 has no label")
    write(second, [], [])
    refused(r"train-00001-of-00002\.parquet holds no pictures")
    second.write_bytes(path.read_bytes()[:300])
    refused(r"train-00001-of-00002\.parquet is no whole Parquet file")
    pq.write_table(pa.table({"image": [b"x"], "label": ["cat"]}), second)
    refused(r"must have one column of pictures.*it has image \(binary\), label \(string\)")


def test_no_files_are_no_examples():
    assert len(ParquetRecords([])) == 0
