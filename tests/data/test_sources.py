import gzip
import subprocess
import sys
import tarfile
import time
from dataclasses import replace

import numpy as np
import pytest

from cnnjax.data import cache as caching
from cnnjax.data import fetch, find, load, network, open_data, sources, specs
from cnnjax.errors import UserError

SHAPES = {
    "mnist": ((28, 28, 1), 10),
    "fashion_mnist": ((28, 28, 1), 10),
    "cifar10": ((32, 32, 3), 10),
    "cifar100": ((32, 32, 3), 100),
    "svhn_cropped": ((32, 32, 3), 10),
}


@pytest.fixture
def archives(tiny, write_idx, write_cifar, write_svhn, tmp_path):
    """Write the archives of a data set; give their folder and the arrays in them."""

    def archives(name, packing="binary", seed=1):
        arrays, folder = tiny(*SHAPES[name], seed), tmp_path / "archives"
        if name.startswith("cifar"):
            write_cifar(folder, name, packing, arrays)
        elif name == "svhn_cropped":
            write_svhn(folder, arrays)
        else:
            write_idx(folder, arrays)
        return folder, arrays

    return archives


def forbid_reading(monkeypatch, name):
    def read(*_paths):
        raise AssertionError("decoded again")

    entry = specs.SPECS[name]
    packings = tuple(replace(packing, read=read) for packing in entry.packings)
    monkeypatch.setitem(specs.SPECS, name, replace(entry, packings=packings))


@pytest.mark.parametrize("name", SHAPES)
def test_archives_in_a_folder(cache, archives, assert_holds, name):
    folder, arrays = archives(name)
    dataset = load(name, folder, verify=False)
    assert_holds(dataset, arrays)
    assert (dataset.name, dataset.classes) == (name, SHAPES[name][1])
    assert dataset.source.startswith(f"unofficial archives in {folder} (")


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_the_python_archive_gives_the_same_arrays(cache, archives, assert_holds, name):
    folder, arrays = archives(name, "python")
    assert [path.name for path in folder.iterdir()] == [f"cifar-{name[5:]}-python.tar.gz"]
    assert_holds(load(name, str(folder), verify=False), arrays)


@pytest.mark.parametrize("within", [False, True])
@pytest.mark.parametrize("packing", ["binary", "python"])
def test_an_archive_unpacked_by_hand(cache, archives, assert_holds, packing, within):
    folder, arrays = archives("cifar10", packing)
    (archive,) = folder.iterdir()
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")
    archive.unlink()
    inner = folder / f"cifar-10-batches-{ {'binary': 'bin', 'python': 'py'}[packing] }"
    given = inner if within else folder
    with pytest.raises(
        UserError, match=rf"^{inner} is unpacked, and only archives have .* or use --no-verify"
    ):
        load("cifar10", given)
    assert_holds(load("cifar10", given, verify=False), arrays)
    file = next(path for path in inner.iterdir() if path.name.startswith("test_batch"))
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(UserError, match="is damaged"):  # other content, so what was read before is not taken
        load("cifar10", given, verify=False)


def test_idx_files_unpacked_by_hand(cache, archives, assert_holds):
    folder, arrays = archives("fashion_mnist")
    for path in folder.iterdir():
        path.with_suffix("").write_bytes(gzip.decompress(path.read_bytes()))
        path.unlink()
    assert_holds(load("fashion_mnist", folder, verify=False), arrays)


def test_archives_that_lie_deeper_are_pointed_out(cache, archives):
    folder, _ = archives("mnist")
    (folder / "MNIST").mkdir()
    raw = folder / "MNIST" / "raw"  # as torchvision leaves them
    raw.mkdir()
    for path in folder.glob("*.gz"):
        path.rename(raw / path.name)
    for given in (folder, folder / "MNIST"):
        with pytest.raises(UserError, match=rf"mnist: the archives lie deeper; give --data-dir {raw}$"):
            load("mnist", given)


def test_official_archives_go_into_the_cache_and_are_found_again(
    cache, archives, publish, assert_holds, monkeypatch
):
    folder, arrays = archives("cifar10")
    publish("cifar10", folder)
    assert find("cifar10") is None
    assert load("cifar10", folder).source == f"archives in {folder}"
    forbid_reading(monkeypatch, "cifar10")
    entry = cache / "datasets/cifar10/official"
    assert find("cifar10") == f"cache in {entry}"
    for again in (load("cifar10"), load("cifar10", folder), fetch("cifar10").dataset):
        assert_holds(again, arrays)
        assert again.source == f"archives in {folder}"
    assert fetch("cifar10", folder).folder == entry


def test_open_data_takes_a_folder_of_archives(cache, archives, assert_holds):
    folder, arrays = archives("svhn_cropped")
    with pytest.raises(UserError, match="is not the published file"):
        open_data("svhn_cropped", data_dir=folder)
    assert_holds(open_data("svhn_cropped", data_dir=str(folder), verify=False), arrays)


def test_unofficial_archives_are_cached_by_their_content(cache, archives, assert_holds, monkeypatch):
    folder, first = archives("cifar10", seed=1)
    load("cifar10", folder, verify=False)
    folder, second = archives("cifar10", seed=2)
    assert_holds(load("cifar10", folder, verify=False), second)
    forbid_reading(monkeypatch, "cifar10")
    assert_holds(load("cifar10", folder, verify=False), second)
    folder, first = archives("cifar10", seed=1)
    assert_holds(load("cifar10", folder, verify=False), first)
    assert len(list((cache / "datasets/cifar10").glob("[0-9a-f]*"))) == 2
    with pytest.raises(
        UserError, match="cifar10 is not on this machine"
    ):  # only official data need no folder
        load("cifar10")


def test_a_repacked_archive_counts_as_official(cache, archives, publish, monkeypatch):
    folder, _ = archives("fashion_mnist")
    publish("fashion_mnist", folder)
    for packing in specs.SPECS["fashion_mnist"].packings:
        for archive in packing.archives:
            path = folder / archive.name
            path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes()), 1))
    with pytest.raises(UserError, match="is not the published file"):
        load("fashion_mnist", folder)
    official = specs.SPECS["fashion_mnist"]
    publish("fashion_mnist", folder)
    repacked = specs.SPECS["fashion_mnist"].packings[0].archives
    both = tuple(
        replace(archive, repacked=other.sha256)
        for archive, other in zip(official.packings[0].archives, repacked, strict=True)
    )
    packing = replace(official.packings[0], archives=both)
    monkeypatch.setitem(specs.SPECS, "fashion_mnist", replace(official, packings=(packing,)))
    assert fetch("fashion_mnist", folder).folder == cache / "datasets/fashion_mnist/official"


def test_a_system_package_is_used_without_a_folder(cache, archives, publish, assert_holds, monkeypatch):
    folder, arrays = archives("fashion_mnist")
    publish("fashion_mnist", folder)
    monkeypatch.setattr(sources, "_SYSTEM_FOLDERS", {"fashion_mnist": folder})
    assert find("fashion_mnist") == f"archives in {folder}"
    assert_holds(fetch("fashion_mnist").dataset, arrays)
    (caching.entry_folder("fashion_mnist") / "meta.json").unlink()
    assert_holds(load("fashion_mnist"), arrays)  # a damaged entry is rebuilt from it
    (folder / "t10k-labels-idx1-ubyte.gz").unlink()
    (caching.entry_folder("fashion_mnist") / "meta.json").unlink()
    assert find("fashion_mnist") is None


def test_a_wrong_checksum_is_refused_unless_told_otherwise(cache, archives):
    folder, _ = archives("cifar10")
    path = folder / "cifar-10-binary.tar.gz"
    with pytest.raises(UserError, match="is not the published file"):
        fetch("cifar10", folder)
    with pytest.raises(UserError) as refusal:
        load("cifar10", folder)
    message = str(refusal.value)
    assert message.startswith(f"{path} is not the published file: expected sha256 c4a38c50a1bc5f3a1c55")
    assert "170052171 bytes; got " in message
    assert f"{path.stat().st_size} bytes; fetch it again, or use --no-verify" in message
    assert "\n" not in message
    assert not cache.exists()


def test_missing_files_are_named_with_their_checksum(cache, archives, tmp_path):
    with pytest.raises(UserError, match=r"there is no folder .*nowhere; give --data-dir one that exists"):
        load("mnist", tmp_path / "nowhere")
    with pytest.raises(UserError) as refusal:
        load("cifar10", tmp_path)
    message = str(refusal.value)
    assert f"{tmp_path} lacks cifar-10-binary.tar.gz (sha256 c4a38c50a1bc5f3a1c5537f2155ab9d6" in message
    assert "or cifar-10-python.tar.gz (sha256 6d958be074577803d12ecdefd02955f39262c83c" in message
    assert "run `cnnjax data cifar10`" in message
    folder, _ = archives("mnist")
    (folder / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(
        UserError, match=r"lacks t10k-labels-idx1-ubyte.gz \(sha256 f7ae60f9\w+\); put it there"
    ):
        load("mnist", folder)


def test_a_damaged_archive_leaves_no_cache_entry(cache, archives):
    folder, _ = archives("cifar100")
    path = folder / "cifar-100-binary.tar.gz"
    path.write_bytes(path.read_bytes()[:-20000])
    with pytest.raises(UserError, match=r"cifar-100-binary\.tar\.gz is damaged"):
        load("cifar100", folder, verify=False)
    assert not list(cache.glob("datasets/cifar100/[!.]*"))


def test_a_label_out_of_range_is_named_by_its_place_in_the_archive(cache, tiny, write_idx, tmp_path):
    arrays = tiny((28, 28, 1), 10)
    arrays[1][7] = 10
    write_idx(tmp_path / "archives", arrays)
    with pytest.raises(UserError, match=r"mnist, training split.*image 7 .* has label 10, not one of 0 to 9"):
        load("mnist", tmp_path / "archives", verify=False)


def test_missing_data_are_said_at_once(cache, monkeypatch):
    monkeypatch.setattr(network, "unreachable", lambda url: pytest.fail("load used the network"))
    started = time.perf_counter()
    with pytest.raises(UserError) as refusal:
        load("cifar10")
    assert time.perf_counter() - started < 0.5
    message = str(refusal.value)
    for part in (
        f"looked for {cache}/datasets/cifar10/official, which is absent, and in {cache.parent}/tfds/cifar10",
        "`cnnjax data cifar10` downloads it; without network bring cifar-10-binary.tar.gz (sha256",
        "cifar-10-binary.tar.gz (sha256 c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd)",
    ):
        assert part in message
    assert "\n" not in message


def test_a_damaged_entry_without_a_source_is_said_to_be_damaged(cache, archives, publish):
    folder, _ = archives("cifar10")
    publish("cifar10", folder)
    fetch("cifar10", folder)
    (cache / "datasets/cifar10/official/train_images.npy").write_bytes(b"")
    with pytest.raises(UserError, match=r"official, which is damaged"):
        load("cifar10")


@pytest.mark.parametrize("source", ["auto", "tfds"])
def test_offline_a_download_is_refused_at_once(cache, source):
    started = time.perf_counter()
    with pytest.raises(UserError) as refusal:
        fetch("cifar10", source=source)
    assert time.perf_counter() - started < 5
    message = str(refusal.value)
    assert message.startswith(
        "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz cannot be reached (no net"
    )
    assert "bring cifar-10-binary.tar.gz (sha256 c4a38c50" in message
    assert message.endswith(
        "from https://www.cs.toronto.edu/~kriz/ to a folder and give it as --data-dir FOLDER"
    )
    assert "`cnnjax data" not in message  # which was just typed


def test_rebuilding_from_archives_repairs_what_checks_cannot_see(cache, archives, publish, assert_holds):
    folder, arrays = archives("cifar10")
    publish("cifar10", folder)
    entry = fetch("cifar10", folder).folder
    assert entry is not None
    images = np.load(entry / "train_images.npy")
    np.save(entry / "train_images.npy", images ^ 1)
    assert_holds(fetch("cifar10", folder, source="archives").dataset, arrays)


def test_what_is_printed_about_a_fetched_data_set(cache, archives):
    folder, _ = archives("svhn_cropped")
    fetched = fetch("svhn_cropped", folder, verify=False)
    assert str(fetched).startswith(
        "svhn_cropped: 20 training and 8 test images of 32x32x3, 10 classes, "
        f"from unofficial archives in {folder} ("
    )
    assert str(fetched).endswith(f", in {fetched.folder}")
    assert str(fetch("synthetic")).endswith("16x16x3, 10 classes, from generated, seed 0")


def test_a_source_must_exist_and_have_what_it_needs(cache):
    with pytest.raises(UserError, match="'torrent'; there are: auto, archives, tfds"):
        fetch("cifar10", source="torrent")  # pyright: ignore[reportArgumentType]
    with pytest.raises(UserError, match=r"--source archives needs --data-dir FOLDER, .* cifar-10-binary"):
        fetch("cifar10", source="archives")


def test_importing_the_package_is_light():
    heavy = ["jax", "tensorflow_datasets", "scipy", "grain", "rich"]
    code = f"import sys, cnnjax.data; print([name for name in {heavy} if name in sys.modules])"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert printed.stdout.strip() == "[]"
