import io
import re
import shutil
import sys
import tarfile

import numpy as np
import pytest
import tensorflow_datasets  # noqa: F401 - now, as its import must not meet one in a thread of grain's
from PIL import Image

from cnnjax.data import open_data, open_stream, prepare_imagenet, tfds_source
from cnnjax.data.ahead import reading_ahead
from cnnjax.data.batches import batch_indices
from cnnjax.data.rows import EvaluationRows, TrainingRows
from cnnjax.data.streams import ARCHIVES
from cnnjax.errors import UserError
from cnnjax.images import decode

SIDE, BATCH = 16, 5


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("photographs")
    write_photographs(root, {"train": 4, "val": 2})
    (root / "train" / "cat" / "notes.txt").write_text("no picture")
    return root


@pytest.fixture(scope="module")
def stream(folder):
    return open_data(str(folder))


def write_photographs(root, counts):
    """So many of each class in each split, of different sizes, each of one grey of its own."""
    grey = 0
    for split, count in counts.items():
        for kind in ("ant", "bee", "cat"):
            (root / split / kind).mkdir(parents=True)
            for number in range(count):
                grey += 10
                (root / split / kind / f"{number}.JPEG").write_bytes(photograph(grey, (40 + grey % 7, 30)))


def photograph(grey, size):
    file = io.BytesIO()
    Image.new("RGB", size, (grey, grey, grey)).save(file, format="jpeg")
    return file.getvalue()


def training(stream, rows=range(BATCH), seeds=(3,), augment="area_crop_flip"):
    return TrainingRows(stream.train, seeds, BATCH, rows, augment, SIDE)


def same(ours, theirs):
    return all(np.array_equal(left, right) for left, right in zip(ours, theirs, strict=True))


def test_a_folder_of_photographs(stream, folder):
    assert str(stream) == (
        f"{folder}: 12 training and 6 test pictures, 3 classes, from pictures in {folder}; "
        f"1 other file is passed over, such as {folder}/train/cat/notes.txt"
    )
    encoded, label = stream.train[5]
    assert (encoded, label) == ((folder / "train" / "bee" / "1.JPEG").read_bytes(), 1)
    assert stream.test.name(5) == str(folder / "val" / "cat" / "1.JPEG")
    assert [stream.train[index][1] for index in range(12)] == [0] * 4 + [1] * 4 + [2] * 4


def test_a_batch_is_the_pictures_of_the_indices(stream):
    for step in (0, 7):
        images, labels = training(stream)(step)
        indices = batch_indices(3, step, BATCH, 12)
        assert images.shape == (1, 1, BATCH, SIDE, SIDE, 3)
        np.testing.assert_array_equal(images[0, 0, :, 3, 3, 0], 10 * (1 + indices))
        np.testing.assert_array_equal(labels[0, 0], indices // 4)


def test_what_a_row_sees_depends_on_seed_step_and_row_alone(tmp_path):
    """The processes' shares put together, and the runs taken together, are the whole."""
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (30, 40, 3), np.uint8))
    for split in ("train", "val"):
        (tmp_path / split / "only").mkdir(parents=True)
        noise.save(tmp_path / split / "only" / "1.png")
    stream = open_stream(str(tmp_path))  # one picture, so that all that differs is its augmentation
    whole = training(stream)(2)
    parts = [training(stream, rows)(2) for rows in (range(0, 2), range(2, 5))]
    assert same(whole, [np.concatenate(arrays, 2) for arrays in zip(*parts, strict=True)])
    both = training(stream, seeds=(3, 4))(2)
    assert same(whole, [array[:1] for array in both])
    crops = [*both[0].reshape(-1, SIDE, SIDE, 3), *training(stream)(3)[0][0, 0]]
    assert len({crop.tobytes() for crop in crops}) == 3 * BATCH


def test_evaluation_rows_go_round(stream):
    images, labels = EvaluationRows(stream.test, BATCH, range(BATCH), SIDE)(1)
    np.testing.assert_array_equal(labels, [2, 0, 0, 1, 1])
    np.testing.assert_array_equal(images[:, 0, 0, 0], [180, 130, 140, 150, 160])


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_read_ahead_are_the_same_at_any_number_of_workers(stream, workers):
    read = training(stream)
    with reading_ahead(read, range(3, 1000), workers, lambda batch: (*batch, "put")) as batches:
        for step in (3, 4, 5):
            *batch, mark = next(batches)
            assert same(batch, read(step))
            assert mark == "put"


@pytest.mark.parametrize("workers", [0, 1])
def test_a_damaged_photograph_is_one_line_from_workers_too(tmp_path, workers):
    write_photographs(tmp_path, {"train": 1, "val": 2})
    damaged = tmp_path / "val" / "cat" / "1.JPEG"
    damaged.write_bytes(damaged.read_bytes()[:300])
    read = EvaluationRows(open_stream(str(tmp_path)).test, 3, range(3), SIDE)
    with reading_ahead(read, range(2), workers, lambda batch: batch) as batches:
        assert same(next(batches), read(0))
        with pytest.raises(UserError, match=f"^{re.escape(str(damaged))} is no picture"):
            next(batches)


def test_held_out_pictures(stream):
    part = stream.split(4, seed=1)
    ours, theirs = ({split[index][0] for index in range(len(split))} for split in (part.train, part.test))
    assert (len(ours), len(theirs), len(ours | theirs)) == (8, 4, 12)
    assert part.test.name(0) in {stream.train.name(index) for index in range(12)}
    with pytest.raises(UserError, match="cannot hold out 12 of 12"):
        stream.split(12, seed=1)
    with pytest.raises(UserError, match="leave out downsample"):
        stream.downsampled(2)
    assert stream.downsampled(1) is stream


def test_the_digest_is_of_names_sizes_and_labels(stream, folder, tmp_path):
    copy = tmp_path / "elsewhere"
    shutil.copytree(folder, copy)
    assert open_data(str(copy)).digest == stream.digest
    found = {stream.digest, stream.split(4, seed=1).digest, stream.split(4, seed=2).digest}
    (copy / "val" / "bee" / "1.JPEG").rename(copy / "val" / "bee" / "2.JPEG")
    found.add(open_data(str(copy)).digest)
    with open(copy / "train" / "bee" / "1.JPEG", "ab") as file:
        file.write(b" ")
    found.add(open_data(str(copy)).digest)
    for split in ("train", "val"):
        (copy / split / "aardvark").mkdir()
        shutil.copy(folder / "val" / "ant" / "0.JPEG", copy / split / "aardvark")
    found.add(open_data(str(copy)).digest)
    assert len(found) == 6


def test_what_is_not_there_is_one_line(cache, tmp_path):
    def refused(message, name=str(tmp_path)):
        with pytest.raises(UserError, match=message) as error:
            open_data(name)
        assert "\n" not in str(error.value)

    refused(r"no folder \./nowhere|no folder nowhere", "./nowhere")
    refused(
        f"imagenet2012 is not in {tmp_path}/tfds/imagenet2012: `cnnjax data imagenet2012 --data-dir F",
        "imagenet2012",
    )
    refused("holds no pictures: a data set of photographs holds train/CLASS")
    (tmp_path / "train" / "ant").mkdir(parents=True)
    (tmp_path / "val" / "bee").mkdir(parents=True)
    refused("class ant in .*/train has no training pictures; .*, or fill it with files that end in .bmp")
    (tmp_path / "train" / "ant" / "1.jpg").touch()
    refused("val/bee: there is no class bee in .*/train")
    (tmp_path / "val" / "bee").rename(tmp_path / "val" / "ant")
    refused("val holds no pictures; they must lie in")
    (tmp_path / "val" / "ant").rmdir()
    (tmp_path / "val" / "1.jpg").touch()
    refused("val holds pictures but no class folders; they must lie in .*/val/CLASS/")
    (tmp_path / "train").rename(tmp_path / "elsewhere")
    refused("there is no folder .*/train beside .*/val: a data set")
    (tmp_path / "elsewhere").rename(tmp_path / "train")
    (tmp_path / "dataset_info.json").write_text("{}")
    refused("cannot be read as pictures with labels .* file_format='array_record'")


def test_imagenet_from_its_archives(cache, tmp_path):
    """In the published layout: an archive of archives, and one of all validation pictures."""
    archives = tmp_path / "archives"
    archives.mkdir()
    with pytest.raises(UserError, match=f"lacks {ARCHIVES[0]} and {ARCHIVES[1]}"):
        prepare_imagenet(archives)

    files = {f"n01440764_{number}.JPEG": photograph(40 * number, (50, 40)) for number in (1, 2)}
    files["n01739381_1309.JPEG"] = cmyk()  # one of those that are converted
    inner = {
        kind: tarred({k: v for k, v in files.items() if k[:9] == kind}) for kind in ("n01440764", "n01739381")
    }
    tests = {f"ILSVRC2012_val_0000000{number}.JPEG": photograph(50 + number, (60, 50)) for number in (1, 2)}
    (archives / ARCHIVES[0]).write_bytes(tarred({f"{kind}.tar": content for kind, content in inner.items()}))
    (archives / ARCHIVES[1]).write_bytes(tarred(tests))
    stream = prepare_imagenet(archives, progress=False)
    assert "tensorflow" not in sys.modules
    assert (len(stream.train), len(stream.test), stream.classes) == (3, 2, 1000)
    assert stream.source == f"tensorflow-datasets in {tmp_path}/tfds/imagenet2012/5.1.0"
    found = dict(stream.train[index] for index in range(3))
    assert {label for encoded, label in found.items() if encoded in files.values()} == {0}
    (converted,) = found.keys() - files.values()
    ours, theirs = (decode(encoded, "it").getpixel((5, 5)) for encoded in (converted, cmyk()))
    np.testing.assert_allclose(ours, theirs, atol=2)  # it is a JPEG again
    assert {stream.test[index][0] for index in range(2)} == set(tests.values())
    assert "validation record 1" in stream.test.name(1)
    again = open_stream(str(tfds_source.prepared("imagenet2012")))
    assert again.test[0] == stream.test[0]
    assert again.digest == stream.digest
    assert stream.train.digest() != stream.test.digest()

    read = TrainingRows(stream.train, (0,), 2, range(2), "none", SIDE)
    with reading_ahead(
        read, range(5), 1, lambda batch: batch
    ) as batches:  # a worker opens the records itself
        assert same(next(batches), read(0))


def tarred(files):
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return archive.getvalue()


def cmyk():
    file = io.BytesIO()
    Image.new("CMYK", (40, 40), (10, 60, 110, 20)).save(file, format="jpeg")
    return file.getvalue()
