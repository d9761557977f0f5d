import json
import threading
import time

import numpy as np
import pytest

from cnnjax.data import cache as caching
from cnnjax.data.synthetic import synthetic
from cnnjax.errors import UserError


def toy():
    return synthetic(train=30, test=10)


def never():
    raise AssertionError("built although it was there")


def test_where_it_lies(monkeypatch, tmp_path):
    monkeypatch.setenv("CNNJAX_CACHE", str(tmp_path / "mine"))
    assert caching.entry_folder("mnist") == tmp_path / "mine/datasets/mnist/official"
    monkeypatch.delenv("CNNJAX_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert caching.entry_folder("mnist", "abc") == tmp_path / "xdg/cnnjax/datasets/mnist/abc"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert caching.entry_folder("mnist") == tmp_path / "home/.cache/cnnjax/datasets/mnist/official"


def test_built_once_then_memory_mapped(cache):
    assert caching.lookup("toy") is None
    caching.cached("toy", "official", toy)
    found = caching.cached("toy", "official", never)
    for name in ("train_images", "train_labels", "test_images", "test_labels"):
        np.testing.assert_array_equal(getattr(found, name), getattr(toy(), name), strict=True)
    assert isinstance(found.train_images, np.memmap)
    assert not found.train_images.flags.writeable
    assert (found.classes, found.source) == (10, toy().source)


def test_rebuild_replaces_what_is_there(cache):
    caching.cached("toy", "official", toy)
    other = caching.cached("toy", "official", lambda: synthetic(30, 10, seed=1), rebuild=True)
    np.testing.assert_array_equal(other.train_images, synthetic(30, 10, seed=1).train_images)


def cut(folder):
    file = folder / "test_images.npy"
    file.write_bytes(file.read_bytes()[:-1])


def extend(folder):
    with open(folder / "test_labels.npy", "ab") as file:
        file.write(b"x")


def swap(folder):  # the right length, other content
    meta = json.loads((folder / "meta.json").read_text())
    file = folder / "train_labels.npy"
    file.write_bytes(b"x" * meta["bytes"][1])


def remove(folder):
    (folder / "train_images.npy").unlink()


def empty(folder):
    (folder / "meta.json").write_text("")


def relabel(folder):
    labels = np.load(folder / "train_labels.npy")
    np.save(folder / "train_labels.npy", labels + np.int32(10))


def outdate(folder):
    meta = json.loads((folder / "meta.json").read_text())
    (folder / "meta.json").write_text(json.dumps(meta | {"layout": 0}))


@pytest.mark.parametrize("damage", [cut, extend, swap, remove, empty, relabel, outdate])
def test_a_damaged_entry_is_rebuilt(cache, damage):
    caching.cached("toy", "official", toy)
    damage(caching.entry_folder("toy"))
    assert caching.lookup("toy") is None
    again = caching.cached("toy", "official", toy)
    np.testing.assert_array_equal(again.train_labels, toy().train_labels)


def test_a_failed_build_leaves_nothing(cache):
    def fail():
        raise UserError("no")

    with pytest.raises(UserError):
        caching.cached("toy", "official", fail)
    assert [file.name for file in (cache / "datasets/toy").iterdir()] == [".lock"]


def test_of_several_starts_one_builds(cache):
    builds, sources = [], []

    def slow():
        builds.append(1)
        time.sleep(0.2)
        return toy()

    def start():
        sources.append(caching.cached("toy", "official", slow).source)

    threads = [threading.Thread(target=start) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(builds), len(sources)) == (1, 4)


def test_an_entry_that_does_not_read_back(cache, monkeypatch):
    monkeypatch.setattr(caching, "lookup", lambda *_: None)
    with pytest.raises(
        UserError, match=r"toy: the cache entry .* does not read back as written; check the disk"
    ):
        caching.cached("toy", "official", toy)


def test_a_cache_that_cannot_be_written(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("CNNJAX_CACHE", str(tmp_path / "file"))
    with pytest.raises(UserError, match=r"cannot write the cache .*file.*set CNNJAX_CACHE to a folder"):
        caching.cached("toy", "official", toy)
