"""What is found in a folder of photographs; none is read, so the files are empty."""

import re
import sys
from types import SimpleNamespace

import pytest

from cnnjax import Config, make_mesh
from cnnjax.__main__ import main
from cnnjax.data import is_streamed, open_data, open_stream
from cnnjax.data.folders import open_folder
from cnnjax.data.pictures import SUFFIXES
from cnnjax.errors import UserError
from cnnjax.training.inputs import make_input


def make(root, *names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return root


def listed(records):
    """The names below the split's folder, with their labels."""
    return {
        records.name(index).removeprefix(f"{records._folder}/"): int(records._labels[index])
        for index in range(len(records))
    }


def refused(folder, message):
    with pytest.raises(UserError, match=message) as error:
        open_stream(str(folder))
    assert "\n" not in str(error.value)


TWO = ("train/a/0.jpg", "train/b/0.jpg", "val/a/1.jpg", "val/b/1.jpg")


def test_a_folder_that_is_not_divided(tmp_path):
    make(tmp_path, *(f"{kind}/{number}.jpg" for kind in "ab" for number in range(4)))
    stream = open_stream(str(tmp_path))
    assert (len(stream.train), len(stream.test), stream.classes) == (8, 0, 2)
    assert str(stream).endswith("; no test pictures: hold some out by --validation N")
    with pytest.raises(UserError, match="has no test examples: hold some out, such as --validation 100"):
        make_input(
            stream, Config(data=str(tmp_path)), make_mesh(data=1), SimpleNamespace(input_shape=(32, 32, 3))
        )
    part = stream.split(3, seed=0)
    assert (len(part.train), len(part.test), part.remarks) == (5, 3, ())
    make(tmp_path / "whole", *(f"train/{kind}/{number}.jpg" for kind in "ab" for number in range(4)))
    assert listed(open_stream(str(tmp_path / "whole")).train) == listed(stream.train)


@pytest.mark.parametrize("train", ["train", "training", "Train"])
@pytest.mark.parametrize("test", ["val", "valid", "validation", "test", "testing", "VAL"])
def test_names_of_the_splits(tmp_path, train, test):
    make(tmp_path, f"{train}/a/0.jpg", f"{test}/a/1.jpg", "notes/a/2.jpg")
    found = open_folder(tmp_path)
    assert found.train.name(0) == str(tmp_path / train / "a/0.jpg")
    assert found.test.name(0) == str(tmp_path / test / "a/1.jpg")


def test_of_several_test_folders_val_is_taken(tmp_path):
    found = open_folder(make(tmp_path, *TWO, "test/a/2.jpg", "test/c/2.jpg"))
    assert listed(found.test) == {"a/1.jpg": 0, "b/1.jpg": 1}


def test_every_suffix_in_any_case_and_pictures_that_lie_deeper(tmp_path):
    names = [f"a/{index}{suffix}" for index, suffix in enumerate(sorted(SUFFIXES))]
    names += [name.upper().replace("A/", "b/") for name in names]
    names += ["b/2019/may/0.jpg", "b/thumbs.jpg/0.jpg"]
    found = open_folder(make(tmp_path, *(f"train/{name}" for name in names), "val/a/0.jpg"))
    assert listed(found.train) == {name: "ab".index(name[0]) for name in names}
    assert found.remarks == (f"class b in {tmp_path}/val has no test pictures",)


def test_junk_is_passed_over(tmp_path):
    junk = ("train/a/._0.jpg", "train/.DS_Store", "train/a/.cache/0.jpg", "train/.ipynb_checkpoints/0.jpg")
    junk += ("train/__MACOSX/0.jpg", "train/a/@eaDir/0.jpg", "val/lost+found/0.jpg", "__MACOSX/train/a/0.jpg")
    found = open_folder(make(tmp_path, *TWO, *junk))
    assert (listed(found.train), listed(found.test)) == (
        {"a/0.jpg": 0, "b/0.jpg": 1},
        {"a/1.jpg": 0, "b/1.jpg": 1},
    )
    assert found.remarks == ()
    found = open_folder(make(tmp_path, "train/a/Thumbs.db", "val/b/list.txt", "val/loose.jpg"))
    assert found.remarks == (f"3 other files are passed over, such as {tmp_path}/train/a/Thumbs.db",)


def test_links_are_followed_but_not_in_circles(tmp_path):
    make(tmp_path, *TWO)
    train = tmp_path / "train"
    (train / "a" / "back").symlink_to(train)
    (train / "b" / "self").symlink_to("self")
    (train / "c").symlink_to(tmp_path / "val" / "b")
    found = open_folder(tmp_path)
    names = listed(found.train)
    assert names.pop("c/1.jpg") == 2
    assert {"a/0.jpg", "b/0.jpg"} < set(names)
    assert len(names) < 10
    (train / "a" / "gone.jpg").symlink_to(tmp_path / "nowhere.jpg")
    refused(tmp_path, r"train/a/gone\.jpg is a link to nothing; remove it or bring the picture back")


def test_a_class_without_pictures_is_named(tmp_path):
    make(tmp_path, *TWO, "train/c/notes.txt")
    refused(tmp_path, r"^class c in .*/train has no training pictures; remove the folder, or fill it .*\.jpg")
    make(tmp_path, *(f"train/{kind}/notes.txt" for kind in "defgh"))
    refused(tmp_path, r"^6 classes in .*/train \(c, d, e, f, g \.\.\.\) have no training pictures")
    for kind in "cdefgh":
        make(tmp_path, f"train/{kind}/0.jpg")
    found = open_folder(tmp_path)
    assert listed(found.test) == {"a/1.jpg": 0, "b/1.jpg": 1}
    assert found.remarks[0] == f"6 classes in {tmp_path}/val (c, d, e, f, g ...) have no test pictures"


def test_folders_that_hold_no_classes(tmp_path):
    refused(
        make(tmp_path / "flat", "train/a/0.jpg", "val/0.jpg"),
        "/val holds pictures but no class folders; they",
    )
    refused(
        make(tmp_path / "one", "0.jpg", "1.jpg"), "/one holds pictures but no class folders; they must lie in"
    )
    refused(make(tmp_path / "text", "notes.txt"), "/text holds no pictures: a data set of photographs holds")


def test_a_folder_in_which_the_data_set_lies_deeper(tmp_path):
    make(tmp_path / "images", *TWO)
    refused(tmp_path, f"is no data set itself; name the folder in it, {re.escape(str(tmp_path))}/images$")
    make(tmp_path / "cifar", "3.0.2/dataset_info.json")
    refused(tmp_path / "cifar", "name the folder in it, .*/cifar/3.0.2$")


@pytest.mark.parametrize("name", ["cifar-100-python.tar.gz", "cifar-100-python/train"])
def test_a_folder_of_archives_says_whose(tmp_path, name):
    refused(
        make(tmp_path, name),
        f"holds cifar100's archives, no pictures: name cifar100, .*--data-dir {tmp_path}$",
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--data-dir", "here"], "--data-dir here: say of which data set, as in"),
        (["./here", "--source", "archives"], "--source and --no-verify are for archives; leave them out"),
        (["./here", "--no-verify"], "--source and --no-verify are for archives; leave them out"),
        (
            ["./here", "--data-dir", "there"],
            "./here: a folder of pictures is read where it is; leave out --data-dir",
        ),
        (["./here"], "there is no folder here; a data set in one is named by its path"),
        (["imagenet2012", "--data-dir", "there"], "there lacks ILSVRC2012_img_train.tar and"),
    ],
)
def test_the_command_ignores_nothing(tmp_path, monkeypatch, capsys, words, message):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["cnnjax", "data", *words])
    with pytest.raises(SystemExit) as end:
        main()
    said = capsys.readouterr()
    assert (end.value.code, said.out, said.err.count("\n")) == (2, "", 1)
    assert message in said.err


def test_the_command_on_a_folder(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["cnnjax", "data", str(make(tmp_path, *TWO))])
    main()
    assert capsys.readouterr().out.startswith(f"{tmp_path}: 2 training and 2 test pictures, 2 classes, from")


def test_what_names_a_folder(tmp_path, monkeypatch):
    make(tmp_path, "pictures/train/a/0.jpg", "mnist/train/a/0.jpg")
    monkeypatch.chdir(tmp_path)
    assert len(open_data("pictures").train) == 1
    assert open_data(tmp_path / "pictures").digest == open_data("./pictures").digest
    assert is_streamed(tmp_path)
    assert is_streamed(".")
    assert is_streamed("imagenet2012")
    for name in ("mnist", "photos", None, 3):
        assert not is_streamed(name)
    with pytest.raises(UserError, match="a folder of pictures is read where it is; leave out --data-dir"):
        open_data("pictures", data_dir=tmp_path)
    with pytest.raises(
        UserError, match="first run `cnnjax data imagenet2012 --data-dir here`, then leave it out"
    ):
        open_data("imagenet2012", data_dir="here")
    with pytest.raises(UserError, match="workers=-1: must not be negative"):
        open_data("pictures", workers=-1)
