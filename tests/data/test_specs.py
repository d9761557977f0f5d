import re

import pytest

from cnnjax.data import list_datasets, load, spec
from cnnjax.errors import UserError


def test_the_names():
    generated = ["synthetic", "low_pass"]
    published = ["mnist", "fashion_mnist", "cifar10", "cifar100", "svhn_cropped"]
    assert list_datasets() == ["fashion_mini", *generated, *published]


def test_a_misspelt_name_gets_a_suggestion():
    with pytest.raises(
        UserError, match=r"no data set is called 'cifr10'; did you mean cifar10.*the names are"
    ):
        spec("cifr10")
    with pytest.raises(UserError, match=r"'imagenet\?\?'; the names are fashion_mini"):
        spec("imagenet??")


def test_what_is_no_name():
    for name, message in ((None, "not NoneType; the names are fashion_mini"), (["mnist"], "not list")):
        with pytest.raises(UserError, match=message):
            spec(name)
    with pytest.raises(UserError, match=r"\./mnist is no data set's name but a path"):
        spec("./mnist")


def test_what_is_said_of_a_built_in_data_set_is_so():
    for name in ("fashion_mini", "synthetic", "low_pass"):
        data, said = load(name), spec(name)
        assert (len(data.train_labels), len(data.test_labels)) == (said.train, said.test)
        assert (data.train_images.shape[1:], data.classes) == (said.shape, said.classes)


def test_published_sizes():
    """The papers' numbers; a record is its pixels and, in CIFAR, its labels."""
    counts = {name: (spec(name).train, spec(name).test) for name in list_datasets() if spec(name).packings}
    of_mnist, of_cifar = (60_000, 10_000), (50_000, 10_000)
    assert counts == {
        "mnist": of_mnist,
        "fashion_mnist": of_mnist,
        "cifar10": of_cifar,
        "cifar100": of_cifar,
        "svhn_cropped": (73_257, 26_032),
    }
    assert {spec(name).shape for name in counts} == {(28, 28, 1), (32, 32, 3)}


def test_digits_are_not_mirrored():
    assert {name for name in list_datasets() if spec(name).flips} == {
        "fashion_mini",
        "fashion_mnist",
        "cifar10",
        "cifar100",
    }


def test_checksums_are_those_of_tensorflow_datasets():
    checksums = pytest.importorskip("tensorflow_datasets.core.download.checksums")
    known = {
        (info.filename, int(info.size), info.checksum) for info in checksums.get_all_url_infos().values()
    }
    tfds = pytest.importorskip("tensorflow_datasets")
    known |= {
        (info.filename, int(info.size), info.checksum)
        for info in tfds.builder_cls("svhn_cropped").url_infos.values()
    }
    for name in list_datasets():
        if spec(name).packings:
            for archive in spec(name).tfds_packing.archives:
                assert (archive.name, archive.bytes, archive.sha256) in known
    for name in ("mnist", "fashion_mnist", "cifar10", "cifar100", "svhn_cropped"):
        assert re.match(r"https?://", spec(name).url)
