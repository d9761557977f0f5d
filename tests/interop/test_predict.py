import sys

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save_file

from cnnjax.__main__ import main
from cnnjax.errors import UserError
from cnnjax.interop import Preprocessing, preprocess
from cnnjax.interop.predict import predict
from cnnjax.interop.torchvision import find
from tests.interop.stored import shapes_of
from tests.reference.make_torchvision_reference import FILE, draw_weights

DRAW = np.random.RandomState(0)


def picture(width, height):
    return Image.fromarray(DRAW.randint(256, size=(height, width, 3)).astype(np.uint8))


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Weights of ResNet-18 for ten classes, and two images."""
    folder = tmp_path_factory.mktemp("predict")
    with np.load(FILE) as file:
        weights = draw_weights(shapes_of("resnet18", file))
    save_file(weights, folder / "weights.safetensors")
    picture(300, 260).save(folder / "a.png")
    picture(260, 400).convert("L").save(folder / "b.png")
    (folder / "labels.txt").write_text("\n".join(f"class {index}" for index in range(10)))
    return folder


def test_an_image_that_needs_no_resizing_is_cropped_and_normalised():
    image = picture(256, 301)
    pixels = np.asarray(image)[38:262, 16:240] / 255  # the half pixel of 38.5 goes to the even side
    expected = (pixels - (0.485, 0.456, 0.406)) / (0.229, 0.224, 0.225)
    np.testing.assert_allclose(preprocess(image, Preprocessing()), expected, rtol=1e-5, atol=1e-6)


def test_resizing_keeps_the_aspect():
    image = Image.new("RGB", (1000, 100), (255, 0, 0))
    image.paste((0, 0, 255), (500, 0, 1000, 100))
    pixels = preprocess(image, find("googlenet")[0].preprocessing)
    assert pixels.shape == (224, 224, 3)
    np.testing.assert_allclose(pixels[:, :100], np.broadcast_to([1, -1, -1], (224, 100, 3)))
    np.testing.assert_allclose(pixels[:, -100:], np.broadcast_to([-1, -1, 1], (224, 100, 3)))


def test_the_command_prints_the_best_five(files, monkeypatch, capsys):
    words = ["resnet18", "--weights", files / "weights.safetensors", "--labels", files / "labels.txt"]
    images = [files / "a.png", files / "b.png"]
    monkeypatch.setattr(sys, "argv", ["cnnjax", "predict", *map(str, words), *map(str, images)])
    main()
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 * 6
    assert lines[0].endswith("a.png")
    for line in lines[1:6]:
        probability, _, index, *label = line.split()
        assert label == ["class", index]
        assert 0 <= float(probability) <= 100
    probabilities = [float(line.split()[0]) for line in lines[1:6]]
    assert probabilities == sorted(probabilities, reverse=True)


def test_what_is_no_image_and_sizes_below_the_crop(files):
    weights = files / "weights.safetensors"
    with pytest.raises(UserError, match=r"weights.safetensors is no picture .* \(no known format\)"):
        predict("resnet18", weights, [weights])
    picture(300, 260).save(files / "cut.jpg")
    (files / "cut.jpg").write_bytes((files / "cut.jpg").read_bytes()[:5000])
    with pytest.raises(UserError, match=r"/cut\.jpg is no picture .* \(image file is truncated"):
        predict("resnet18", weights, [files / "a.png", files / "cut.jpg"])
    with pytest.raises(UserError, match="at least 224"):
        predict("resnet18", weights, [files / "a.png"], resize=100)
    assert find("inception_v3_torchvision")[0].preprocessing.crop == 299  # by our name too
