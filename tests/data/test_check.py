"""What is told of the pictures of a folder, and what training does with them."""

import json
import os
import sys

import numpy as np
import pytest
from flax import linen as nn
from PIL import Image

from cnnjax import open_run, train
from cnnjax.__main__ import main
from cnnjax.config import Config
from cnnjax.data import open_stream
from cnnjax.data.check import check_folder
from cnnjax.errors import UserError
from cnnjax.images import decode
from tests.data.odd_pictures import COUNT, ODD, SIDE, encode, grey16, make, picture


@pytest.fixture(scope="module")
def thousand(tmp_path_factory):
    root = tmp_path_factory.mktemp("pictures")
    return root, make(root)


def test_of_a_thousand_pictures_the_forty_odd_ones_are_told_and_no_other(thousand):
    root, told = thousand
    report = check_folder(root)
    assert len(told) == 40
    assert {found.path: (found.kinds, found.action) for found in report.findings} == told
    passed = sum(action == "passed over" for _, action in told.values())
    assert report.pictures == COUNT - passed
    assert report.lost == sum(action == "refused" for _, action in told.values()) + 2  # those called .dat
    text = str(report)
    assert all(path in text for path in told)
    assert f"{report.pictures} pictures, 12 of them refused and 24 odd but used; 4 other files are" in text


@pytest.mark.parametrize("name", [name for name, (_, _, action, _) in ODD.items() if action == "used"])
def test_pixels_of_odd_pictures_are_what_a_viewer_shows(name):
    upright = {"rotated": lambda pixels: pixels.transpose(1, 0, 2)[:, ::-1]}.get(name, lambda pixels: pixels)
    grey = np.floor(grey16(7) / 257 + 0.5)[..., None].repeat(3, -1)
    expected = {
        "grey": np.asarray(picture(7).convert("L").convert("RGB")),
        "black and white": np.asarray(picture(7).convert("1").convert("RGB")),
        "16 bits": grey,
        "white is zero": 255 - grey,
        "12 bits": np.floor((grey16(7) >> 4) / (4095 / 255) + 0.5)[..., None].repeat(3, -1),
        "palette": np.asarray(picture(7).quantize(16).convert("RGB")),
        "clear palette": np.asarray(picture(7).quantize(16).convert("RGB")),
    }.get(name, np.asarray(picture(7)))
    found = np.asarray(decode(ODD[name][3](7), name)).astype(float)
    assert found.shape == (SIDE, SIDE, 3)
    np.testing.assert_allclose(found, upright(expected), atol=12 if ODD[name][0] == ".jpg" else 0)


def test_the_command_lists_all_and_ends_with_2(thousand, monkeypatch, capsys):
    root, told = thousand
    monkeypatch.setattr(sys, "argv", ["cnnjax", "data", str(root), "--check"])
    with pytest.raises(SystemExit) as end:
        main()
    said = capsys.readouterr()
    assert end.value.code == 2
    assert all(path in said.out for path in told)
    assert said.err.startswith(f"cnnjax: {root}: 14 pictures can't be used: remove, mend or rename them")


def write(root, **files):
    for name, content in files.items():
        path = root / name.replace("__", "/").replace("_png", ".png")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return root


def test_a_folder_in_which_all_can_be_used_ends_with_0(tmp_path, monkeypatch, capsys):
    write(tmp_path, train__a__0_png=encode(picture(1), "png"), train__b__0_png=encode(picture(2), "png"))
    monkeypatch.setattr(sys, "argv", ["cnnjax", "data", str(tmp_path), "--check"])
    main()
    said = capsys.readouterr()
    assert said.err == ""
    assert said.out.startswith(f"{tmp_path}: 2 pictures, 0 of them refused and 0 odd but used; 0 other files")
    monkeypatch.setattr(sys, "argv", ["cnnjax", "data", "fashion_mini", "--check"])
    with pytest.raises(SystemExit):
        main()
    assert (
        "--check reads the pictures of a folder: there is no folder fashion_mini" in capsys.readouterr().err
    )


def kinds(root):
    return {os.path.relpath(one.path, root): one.kinds[0] for one in check_folder(root).findings}


def test_copies_and_classes_in_two_cases(tmp_path):
    one, other = encode(picture(1), "png"), encode(picture(2), "png")
    write(tmp_path, train__a__0_png=one, train__a__1_png=one, train__b__2_png=one, train__A__3_png=other)
    write(tmp_path, val__a__4_png=other, val__loose_png=one)
    assert kinds(tmp_path) == {
        "train/a/1.png": "copy",
        "train/b/2.png": "with two labels",
        "val/a/4.png": "in both splits",
        "val/loose.png": "in no class",
        os.path.relpath("a", tmp_path): "class in two cases",
    }


def test_links_to_nothing_files_that_may_not_be_read_and_bombs(tmp_path, monkeypatch):
    write(tmp_path, a__0_png=encode(picture(1), "png"), a__1_png=encode(picture(2), "png"))
    write(tmp_path, a__2_png=encode(picture(3).resize((50, 50)), "png"))
    (tmp_path / "a" / "3.png").symlink_to("nowhere")

    def read(path):
        if path.name == "1.png":
            raise PermissionError(13, "Permission denied", str(path))
        return path.open("rb").read()

    monkeypatch.setattr("pathlib.Path.read_bytes", read)  # root may read everything
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    assert kinds(tmp_path) == {"a/1.png": "unreadable", "a/2.png": "too large", "a/3.png": "dead link"}
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 2000)
    assert kinds(tmp_path)["a/2.png"] == "huge"


def test_pictures_that_cannot_be_read_are_refused_or_skipped(thousand):
    root, told = thousand
    stream = open_stream(root)
    rest = stream.readable()
    bad = {path for path, (_, action) in told.items() if action == "refused"}
    assert {line.partition(": ")[0] for line in rest.skipped} == bad
    assert len(rest.train) + len(rest.test) == len(stream.train) + len(stream.test) - 12
    for split in (rest.train, rest.test):
        for index in range(len(split)):
            decode(split[index][0], split.name(index))
    assert rest.digest != stream.digest


def test_if_none_can_be_read_there_is_nothing_to_skip(tmp_path):
    with pytest.raises(UserError, match=r"none of 1 pictures can be read: .*0\.png: empty \(no bytes\)"):
        open_stream(write(tmp_path, a__0_png=b"")).readable()


class Mean(nn.Module):
    """A classifier of mean colours."""

    input_shape = (8, 8, 3)

    @nn.compact
    def __call__(self, x, train):
        return nn.Dense(2)(x.mean((1, 2)))


def test_a_run_names_what_it_skipped(tmp_path):
    data, said = tmp_path / "data", []
    write(
        data,
        train__b__bad_png=b"",
        **{f"train__{name}_png": encode(picture(3), "png") for name in ("a__0", "b__0")},
    )
    write(data, val__a__0_png=encode(picture(5), "png"))
    config = Config(
        data=str(data), batch_size=2, steps=1, augment="none",
        normalize="channel", schedule="constant", unreadable="skip",
    )  # fmt: skip
    result = train(config, tmp_path / "run", model=Mean(), say=said.append)
    bad = f"{data}/train/b/bad.png: empty (no bytes)"
    assert said[0] == f"{data}: 1 unreadable picture is skipped, such as {bad}; config.json lists all"
    assert json.loads((tmp_path / "run" / "config.json").read_text())["skipped"] == [bad]
    (data / "train" / "b" / "bad.png").unlink()
    with pytest.raises(UserError, match="holds a run on other data"):
        train(config, tmp_path / "run", model=Mean(), say=said.append)
    write(data, val__a__1_png=b"")
    said.clear()
    found = open_run(tmp_path / "run", model=Mean()).evaluate(say=said.append)
    assert found["test_loss"] == pytest.approx(result.metrics["test_loss"])
    assert said == [f"{data}: 1 unreadable picture is skipped, such as {data}/val/a/1.png: empty (no bytes)"]
