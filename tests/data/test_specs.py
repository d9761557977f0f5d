import re

import pytest

from cnnjax.data import list_datasets, spec
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
