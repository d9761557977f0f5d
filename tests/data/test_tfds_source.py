import contextlib
import io
import os
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from cnnjax.data import fetch, find, load, sources, specs, tfds_source
from cnnjax.data.without_tensorflow import _encode_png, without_tensorflow
from cnnjax.errors import UserError


@pytest.fixture
def other_cache(monkeypatch, tmp_path):
    """Switch to a second, empty cache, so that what is found there was not decoded before."""

    def switch():
        monkeypatch.setenv("CNNJAX_CACHE", str(tmp_path / "second"))

    return switch


@pytest.fixture
def quiet(capfd):
    """Nothing is written to the terminal."""
    yield
    assert capfd.readouterr() == ("", "")


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize(("name", "classes"), [("cifar10", 10), ("cifar100", 100)])
def test_cifar_end_to_end(
    cache, tiny, write_cifar, publish, assert_holds, other_cache, tmp_path, name, classes
):
    arrays = tiny((32, 32, 3), classes)
    folder = tmp_path / "archives"
    write_cifar(folder, name, "binary", arrays)
    publish(name, folder)
    fetched = fetch(name, folder, source="tfds")
    assert_holds(fetched.dataset, arrays)
    assert fetched.folder == cache / "datasets" / name / "official"
    assert fetched.dataset.source == f"tensorflow-datasets with archives in {folder}"

    other_cache()
    records = tfds_source.prepared(name)
    assert records == tmp_path / "tfds" / name / "3.0.2"
    assert find(name) == f"tensorflow-datasets in {records}"
    assert_holds(load(name), arrays)  # from the records
    assert_holds(load(name, folder), arrays)
    assert_holds(fetch(name, source="tfds").dataset, arrays)
    assert "tensorflow" not in sys.modules


@pytest.fixture
def serve(monkeypatch, publish):
    """Let the server of CIFAR-10 send this archive, and tensorflow-datasets expect these bytes."""

    def serve(archive: Path, expected: Path):
        import tensorflow_datasets as tfds
        from tensorflow_datasets.core.download import checksums, downloader

        @contextlib.contextmanager
        def open_url(url, **_keywords):
            assert url.endswith(archive.name)
            yield SimpleNamespace(url=url, headers={}), iter([archive.read_bytes()])

        publish("cifar10", expected.parent)
        url = specs.SPECS["cifar10"].url + archive.name
        infos = {url: checksums.compute_url_info(expected)}
        monkeypatch.setattr(tfds.builder_cls("cifar10"), "url_infos", infos)
        # The download manager adds them to the table of every known checksum.
        for known, info in dict(checksums.get_all_url_infos()).items():
            monkeypatch.setitem(checksums.get_all_url_infos(), known, info)
        monkeypatch.setattr(downloader, "_open_url", open_url)
        monkeypatch.setattr(sources, "unreachable", lambda url: None)

    return serve


@pytest.mark.usefixtures("quiet")
def test_a_download(cache, tiny, write_cifar, serve, assert_holds, tmp_path):
    arrays = tiny((32, 32, 3), 10)
    path = write_cifar(tmp_path / "server", "cifar10", "binary", arrays)
    serve(path, path)
    fetched = fetch("cifar10")
    assert_holds(fetched.dataset, arrays)
    assert fetched.dataset.source == "tensorflow-datasets, downloaded from https://www.cs.toronto.edu/~kriz/"
    assert fetched.folder == cache / "datasets/cifar10/official"
    assert find("cifar10") == f"cache in {fetched.folder}"
    assert tfds_source.prepared("cifar10") == tmp_path / "tfds/cifar10/3.0.2"


@pytest.mark.usefixtures("quiet")
def test_a_download_with_a_wrong_checksum(cache, tiny, write_cifar, serve, tmp_path):
    path = write_cifar(tmp_path / "server", "cifar10", "binary", tiny((32, 32, 3), 10))
    other = write_cifar(tmp_path / "expected", "cifar10", "binary", tiny((32, 32, 3), 10, seed=2))
    serve(path, other)
    with pytest.raises(UserError, match=r"could not prepare cifar10 \(NonMatchingChecksumError") as refusal:
        fetch("cifar10")
    assert "\n" not in str(refusal.value)
    assert find("cifar10") is None


@pytest.mark.usefixtures("quiet")
def test_unofficial_archives_stay_out_of_the_common_folder(
    cache, tiny, write_cifar, assert_holds, monkeypatch, tmp_path
):
    folder = tmp_path / "archives"
    for seed in (1, 2):  # the second time under the same names: nothing unpacked before may be reused
        arrays = tiny((32, 32, 3), 10, seed)
        write_cifar(folder, "cifar10", "binary", arrays)
        fetched = fetch("cifar10", folder, source="tfds", verify=False)
        assert_holds(fetched.dataset, arrays)
        assert not (tmp_path / "tfds").exists()
        with monkeypatch.context() as context:
            context.setattr(tfds_source, "read", lambda *_args: pytest.fail("decoded again"))
            found = load("cifar10", folder, verify=False)
        assert found.source == fetched.dataset.source  # the same entry of the cache
        assert_holds(found, arrays)


def test_known_checksums_are_as_before(cache, tiny, write_cifar, tmp_path):
    from tensorflow_datasets.core.download import checksums

    before = dict(checksums.get_all_url_infos())
    write_cifar(tmp_path / "archives", "cifar10", "binary", tiny((32, 32, 3), 10))
    fetch("cifar10", tmp_path / "archives", source="tfds", verify=False)
    assert checksums.get_all_url_infos() == before


@pytest.mark.usefixtures("quiet")
def test_svhn_end_to_end(cache, tiny, write_svhn, publish, assert_holds, other_cache, tmp_path):
    arrays = tiny((32, 32, 3), 10)
    folder = tmp_path / "archives"
    write_svhn(folder, arrays)
    publish("svhn_cropped", folder)
    assert_holds(fetch("svhn_cropped", folder, source="tfds").dataset, arrays)
    other_cache()
    assert_holds(load("svhn_cropped", folder), arrays)
    (folder / "extra_32x32.mat").unlink()
    with pytest.raises(UserError, match=r"lacks extra_32x32\.mat"):
        fetch("svhn_cropped", folder, source="tfds")


@pytest.mark.usefixtures("quiet")
def test_a_place_taken_by_tfrecord_is_left_alone(cache, tiny, write_cifar, publish, assert_holds, tmp_path):
    arrays = tiny((32, 32, 3), 10)
    folder, taken = tmp_path / "archives", tmp_path / "tfds/cifar10/3.0.2"
    write_cifar(folder, "cifar10", "binary", arrays)
    publish("cifar10", folder)
    taken.mkdir(parents=True)
    (taken / "cifar10-train.tfrecord-00000-of-00001").write_bytes(b"")
    (taken / "dataset_info.json").write_text("{}")
    assert tfds_source.prepared("cifar10") is None
    assert_holds(fetch("cifar10", folder, source="tfds").dataset, arrays)
    assert len(list(taken.iterdir())) == 2


def test_prepared_records_must_be_complete(cache, tiny, write_cifar, tmp_path):
    write_cifar(tmp_path / "archives", "cifar10", "binary", tiny((32, 32, 3), 10))
    tfds_source.prepare("cifar10", tmp_path / "tfds", tmp_path / "archives", progress=False)
    with pytest.raises(UserError, match=r"3\.0\.2 holds 20 training and 8 test images, not 50000 and 10000"):
        load("cifar10")


@pytest.mark.parametrize("pattern", ["*train.array_record*", "dataset_info.json", "features.json"])
def test_damaged_records_are_one_line(cache, tiny, write_cifar, tmp_path, pattern):
    write_cifar(tmp_path / "archives", "cifar10", "binary", tiny((32, 32, 3), 10))
    tfds_source.prepare("cifar10", tmp_path / "tfds", tmp_path / "archives", progress=False)
    (file,) = (tmp_path / "tfds/cifar10/3.0.2").glob(pattern)
    file.write_bytes(b"damaged")
    with pytest.raises(
        UserError, match=r"3\.0\.2, prepared by .* cannot be read .*run `cnnjax data cifar10`"
    ):
        load("cifar10")


def test_tensorflow_datasets_needs_the_binary_archive(cache, tiny, write_cifar, tmp_path):
    write_cifar(tmp_path, "cifar10", "python", tiny((32, 32, 3), 10))
    with pytest.raises(UserError, match=r"lacks cifar-10-binary\.tar\.gz \(sha256"):
        fetch("cifar10", tmp_path, source="tfds", verify=False)


def test_checksums_are_verified_before_tensorflow_datasets_sees_them(cache, tiny, write_cifar, tmp_path):
    write_cifar(tmp_path, "cifar10", "binary", tiny((32, 32, 3), 10))
    with pytest.raises(UserError, match="is not the published file"):
        fetch("cifar10", tmp_path, source="tfds")


@pytest.mark.usefixtures("quiet")
def test_a_damaged_archive_is_one_line(cache, tiny, write_cifar, tmp_path):
    path = write_cifar(tmp_path, "cifar10", "binary", tiny((32, 32, 3), 10))
    path.write_bytes(path.read_bytes()[:-20000])
    with pytest.raises(
        UserError, match=r"could not prepare cifar10 \(ExtractError.*cifar-10-binary"
    ) as refusal:
        fetch("cifar10", tmp_path, source="tfds", verify=False)
    assert "\n" not in str(refusal.value)
    assert not list((cache / "datasets/cifar10").glob("[!.]*"))


def test_the_patches_are_undone():
    from tensorflow_datasets.core.download import extractor
    from tensorflow_datasets.core.features import image_feature

    before = extractor.tf, image_feature._ImageEncoder._encode_image
    with without_tensorflow():
        assert extractor.tf is not before[0]
        assert image_feature._ImageEncoder._encode_image is _encode_png
    assert (extractor.tf, image_feature._ImageEncoder._encode_image) == before


def test_copies_that_are_late_end_before_the_patches_are_undone():
    """Else they ask for TensorFlow, which prints that it is missing."""
    from tensorflow_datasets.core.download import extractor

    begun, found = threading.Event(), []

    def late():
        begun.set()
        time.sleep(0.05)
        found.append(extractor.tf)

    with without_tensorflow():
        stand_in = extractor.tf
        extractor.get_extractor()._executor.submit(late)
        begun.wait()
    assert found == [stand_in]


@pytest.mark.parametrize("channels", [1, 3])
def test_png_is_lossless(channels):
    from PIL import Image

    image = np.random.default_rng(0).integers(0, 256, (5, 7, channels), dtype=np.uint8)
    with Image.open(io.BytesIO(_encode_png(None, image))) as decoded:
        np.testing.assert_array_equal(np.asarray(decoded).reshape(image.shape), image)


def test_warnings_are_silenced_for_the_time_being(caplog):
    from absl import logging

    before = logging.get_verbosity()
    with tfds_source._quiet(progress=False):
        logging.warning("noise")
        logging.error("trouble")
    assert [record.message for record in caplog.records] == ["trouble"]
    assert logging.get_verbosity() == before


def test_home(monkeypatch, tmp_path):
    monkeypatch.setenv("TFDS_DATA_DIR", os.fspath(tmp_path))
    assert tfds_source.home() == tmp_path
    monkeypatch.delenv("TFDS_DATA_DIR")
    monkeypatch.setenv("HOME", os.fspath(tmp_path))
    assert tfds_source.home() == tmp_path / "tensorflow_datasets"
    monkeypatch.setenv("HOME", "/proc/none")
    monkeypatch.setenv("CNNJAX_CACHE", os.fspath(tmp_path / "cache"))
    assert tfds_source.home() == tmp_path / "cache" / "tensorflow_datasets"
