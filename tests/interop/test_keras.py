"""Keras's files, and weights of Keras Applications, against stored names, shapes and logits.

tests/reference/make_keras_reference.py made them, and says how.
"""

import os

os.environ.setdefault("KERAS_BACKEND", "jax")

import sys
import zipfile

import numpy as np
import pytest

from cnnjax.errors import UserError
from cnnjax.interop import keras as ours
from cnnjax.interop import load_weights, preprocess, read_weights
from cnnjax.interop.family import matching
from cnnjax.models import build
from tests.interop.double import logits64
from tests.interop.stored import shapes_of, stored
from tests.reference.make_keras_reference import FILE, SIDES, draw_keras_weights
from tests.reference.make_timm_reference import picture
from tests.reference.make_torchvision_reference import draw_images

h5py = pytest.importorskip("h5py", reason="needs the extra keras")


reference = stored(FILE)


def layers(weights):
    """Each layer's arrays, in order."""
    found = {}
    for key, value in weights.items():
        found.setdefault(key.rpartition("/")[0], []).append(value)
    return found


def save_keras3(path, weights):
    """As `model.save_weights("NAME.weights.h5")` of Keras 3."""
    with h5py.File(path, "w") as file:
        for index, (name, arrays) in enumerate(layers(weights).items()):
            group = file.create_group(f"layers/layer_{index}/vars")
            group.attrs["name"] = name
            for number, value in enumerate(arrays):
                group[str(number)] = value


def save_keras2(path, weights, root="/"):
    """As `save_weights` of Keras 2, and, below `model_weights`, as its `model.save("NAME.h5")`."""
    with h5py.File(path, "w") as file:
        for name, arrays in layers(weights).items():
            group = file.create_group(f"{root}{name}")
            names = [f"{name}/array_{number}:0" for number in range(len(arrays))]
            group.attrs["weight_names"] = [one.encode() for one in names]
            for one, value in zip(names, arrays, strict=True):
                group[one] = value


@pytest.mark.parametrize("name", ["resnet50", pytest.param("densenet121", marks=pytest.mark.slow)])
def test_logits(name, reference, tmp_path):
    weights = draw_keras_weights(shapes_of(name, reference))
    save_keras3(tmp_path / "weights", weights)
    model, variables, _ = load_weights(name, tmp_path / "weights")
    assert model == build(name, num_classes=10, bn_epsilon=1.001e-5)
    images = draw_images(SIDES[name])
    # These ResNets take blue, green, red in Keras; here they take red, green, blue.
    logits = logits64(model, variables, images[..., ::-1] if name == "resnet50" else images)
    expected = reference[f"logits/{name}"]
    # Keras's BatchNorm computes in float32, whatever the policy.
    np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize(("name", "first"), [("vgg16", ["block1_conv1/0"]), ("densenet121", [])])
def test_names_and_shapes(name, first, reference):
    (family,) = matching(ours.FAMILIES, name)
    arrays = family.arrays(build(name, num_classes=10))
    assert {array.name: array.shape for array in arrays} == shapes_of(name, reference)
    assert [array.name for array in arrays if array.reverse] == first


WEIGHTS = {f"{layer}/{i}": np.full((2, 3), i, np.float32) for layer in ("conv1_conv", "bn") for i in range(2)}


def assert_read(path, expected=WEIGHTS):
    found = read_weights(path)
    assert set(found) == set(expected)
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value, strict=True)


def test_every_format_is_known_by_its_content(tmp_path):
    for name, save in {"3": save_keras3, "2": save_keras2}.items():
        save(tmp_path / name, WEIGHTS)
        assert_read(tmp_path / name)
    save_keras2(tmp_path / "whole", WEIGHTS, "model_weights/")
    assert_read(tmp_path / "whole")
    with zipfile.ZipFile(tmp_path / "archive", "w") as archive:
        archive.writestr("config.json", "{}")
        archive.write(tmp_path / "3", "model.weights.h5")
    assert_read(tmp_path / "archive")


@pytest.mark.slow  # Keras takes seconds to import
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # Keras's own, with NumPy 2
@pytest.mark.parametrize("name", ["net.keras", "net.weights.h5", "net.h5"])
def test_files_that_keras_writes(name, tmp_path):
    keras = pytest.importorskip("keras")
    net = keras.Sequential([keras.layers.Dense(3, name="fc1"), keras.layers.BatchNormalization(name="bn")])
    net.build((None, 2))
    net.compile("adam", "mse")
    (net.save_weights if "weights" in name else net.save)(tmp_path / name)
    arrays = {
        f"{one.name}/{i}": np.asarray(value) for one in net.layers for i, value in enumerate(one.weights)
    }
    assert_read(tmp_path / name, arrays)


def test_what_is_no_network_of_keras(tmp_path, monkeypatch):
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["images"] = np.zeros(3)
    with pytest.raises(UserError, match=r"other\.h5: its layers have no names: save it again"):
        read_weights(tmp_path / "other.h5")
    save_keras3(tmp_path / "cut.h5", WEIGHTS)
    (tmp_path / "cut.h5").write_bytes((tmp_path / "cut.h5").read_bytes()[:900])
    with pytest.raises(UserError, match=r"cut\.h5 is no file of weights that can be read") as error:
        read_weights(tmp_path / "cut.h5")
    assert "\n" not in str(error.value)
    save_keras3(tmp_path / "other", {**WEIGHTS, **{f"predictions/{i}": np.zeros(7) for i in range(2)}})
    with pytest.raises(UserError, match=r"no weights of densenet121: missing: .*bn/2"):
        load_weights("densenet121", tmp_path / "other")
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(UserError, match=r'pip install "cnnjax\[keras\]"'):
        read_weights(tmp_path / "other")


def test_biases_are_folded_and_older_names_of_the_classifier_known():
    (family,) = (one for one in ours.FAMILIES if one.bgr == "conv1")
    given = {"probs/0": 0, "conv1_conv/1": np.ones(2), "conv1_bn/2": np.array([3.0, 5.0])}
    found = family.prepare(given)
    assert set(found) == {"predictions/0", "conv1_bn/2"}
    np.testing.assert_array_equal(found["conv1_bn/2"], [2, 4])
    assert set(given) == {"probs/0", "conv1_conv/1", "conv1_bn/2"}
    assert family.fits({"probs/1": 0})
    assert not family.fits({"fc.bias": 0})


def test_the_mean_is_subtracted_from_pixels_up_to_255():
    how = ours.CAFFE
    pixels = preprocess(picture(), how)
    assert pixels.shape == (224, 224, 3)
    plain = preprocess(picture(), how._replace(mean=(0, 0, 0)))
    np.testing.assert_allclose(plain - pixels, np.broadcast_to([123.68, 116.779, 103.939], plain.shape), 1e-5)
    assert 250 < plain.max() < 255.1
