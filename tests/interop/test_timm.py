"""timm's weights in, against its stored names, shapes, logits, configs and pixels.

tests/reference/make_timm_reference.py made them, and says how.
"""

import json
import re

import jax
import numpy as np
import pytest
from safetensors.numpy import save_file

from cnnjax.errors import UserError
from cnnjax.interop import load_weights, preprocess
from cnnjax.interop.family import matching
from cnnjax.interop.load import FAMILIES
from cnnjax.interop.predict import predict
from cnnjax.interop.pytorch import TRACKED
from cnnjax.interop.timm import plain_name, preprocessing_in
from cnnjax.models import build
from tests.interop.double import logits64
from tests.interop.stored import shapes_of, stored
from tests.reference import make_torchvision_reference as torchvision_reference
from tests.reference.make_timm_reference import CONFIGS, EVERY, FILE, LOGITS, picture
from tests.reference.make_torchvision_reference import draw_images, draw_weights

reference = stored(FILE)


def save(path, name, reference):
    save_file(draw_weights(shapes_of(name, reference)), path)
    return path


@pytest.mark.parametrize(
    "name", ["resnet18", "resnet50", "wide_resnet50_2", "resnext50_32x4d", "densenet121", "inception_v3"]
)
def test_names_and_shapes_are_torchvisions(name, reference):
    with np.load(torchvision_reference.FILE) as file:
        theirs = shapes_of(name, file)
    main = {key: shape for key, shape in theirs.items() if not key.startswith("AuxLogits")}
    assert shapes_of(name, reference) == main


@pytest.mark.parametrize("name", ["vgg11", "vgg16_bn"])
def test_names_and_shapes_of_their_own(name, reference):
    shapes = {key: shape for key, shape in shapes_of(name, reference).items() if not key.endswith(TRACKED)}
    family = matching(FAMILIES, plain_name(name))[-1]
    weights = family.prepare({key: np.broadcast_to(np.float32(0), shape) for key, shape in shapes.items()})
    arrays = family.arrays(build(plain_name(name), **family.fields(weights)))
    assert {array.name: array.shape for array in arrays} == {key: one.shape for key, one in weights.items()}


@pytest.mark.parametrize(
    "name",
    ["seresnet50", *(pytest.param(name, marks=pytest.mark.slow) for name in ("vgg11", "inception_v3"))],
)
def test_logits(name, reference, tmp_path):
    model, variables, _ = load_weights(name, save(tmp_path / "model.safetensors", name, reference))
    logits = logits64(model, variables, draw_images(LOGITS[name]))
    expected = reference[f"logits/{name}"]
    np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-10 * np.abs(expected).max())


@pytest.mark.parametrize("name", CONFIGS)
def test_pictures_are_prepared_as_by_timm(name, reference, tmp_path):
    how = preprocessing_in(json.loads(str(reference[f"config/{name}"])), tmp_path)
    pixels = preprocess(picture(), how)
    np.testing.assert_allclose(pixels[::EVERY, ::EVERY], reference[f"pixels/{name}"], atol=1e-5)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, reference):
    """A snapshot of ResNet-18 for ten classes, with a config of timm's own."""
    folder = tmp_path_factory.mktemp("resnet18.a1_in1k")
    save(folder / "model.safetensors", "resnet18", reference)
    config = json.loads(str(reference["config/resnet34.a1_in1k"]))
    (folder / "config.json").write_text(json.dumps({**config, "architecture": "resnet18"}))
    picture().save(folder / "picture.png")
    return folder


def test_a_snapshot_and_its_file_are_the_same_by_any_of_its_names(folder):
    model, variables, how = load_weights("resnet18.a1_in1k", folder)
    assert model == build("resnet18_torchvision", num_classes=10)
    assert (how.resize, how.crop, how.interpolation.name) == (235, 224, "BICUBIC")
    again = load_weights("resnet18", folder / "model.safetensors")
    assert again.preprocessing == how
    assert jax.tree.all(jax.tree.map(np.array_equal, variables, again.variables))


def test_predict_takes_a_snapshot(folder, tmp_path):
    config = json.loads((folder / "config.json").read_text())
    (tmp_path / "model.safetensors").symlink_to(folder / "model.safetensors")  # as in Hugging Face's cache
    config["pretrained_cfg"].update(input_size=[3, 64, 64], crop_pct=1.0)
    (tmp_path / "config.json").write_text(json.dumps(config))
    ((index, probability), *_) = predict("resnet18", tmp_path, [folder / "picture.png"])[0]
    model, variables, how = load_weights("resnet18", tmp_path)
    pixels = preprocess(picture(), how)
    assert pixels.shape == (64, 64, 3)
    expected = jax.nn.softmax(model.apply(variables, pixels[None], train=False)[0])
    assert index == int(expected.argmax())
    np.testing.assert_allclose(probability, expected[index], rtol=1e-4)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("resnet50d.ra2_in1k", "its stem has three 3x3 convolutions and its shortcuts pool"),
        ("resnet26t", "its stem has three 3x3 convolutions and its shortcuts pool"),
        ("seresnext26d_32x4d", "its stem has three"),
        ("resnext50d_32x4d", "its shortcuts pool"),
        ("resnet50c.gluon_in1k", "its stem has three"),
        ("resnetv2_50.a1h_in1k", "pre-activation"),
        ("resnetblur50.bt_in1k", "it blurs"),
        ("resnetaa50.a1h_in1k", "it blurs"),
        ("densenetblur121d", "it blurs"),
        ("seresnet18", "multiple of 8"),
        ("legacy_seresnet50.in1k", "rounds up"),
        ("resnet50_gn.a1h_in1k", "another norm"),
        ("efficientnet_b0", "no weights that others publish"),
    ],
)
def test_other_networks_are_refused(name, reason, tmp_path):
    with pytest.raises(UserError, match=f"^{re.escape(name)}.*{reason}") as error:
        load_weights(name, tmp_path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"architecture": "resnet34"}, "has weights of resnet34, not of resnet18: give that name"),
        ({"architecture": "resnetblur18"}, "resnetblur18 is not among the networks here: it blurs"),
        ({"model_args": {"act_layer": "silu"}}, "with act_layer='silu'"),
        ({"global_pool": "max"}, "with global_pool='max'"),
        (
            {"pretrained_cfg": {"crop_mode": "squash"}},
            r"three colours \(.*crop_mode='squash'",
        ),
        (
            {"pretrained_cfg": {"input_size": [1, 28, 28]}},
            r"three colours \(.*input_size=\[1, 28",
        ),
        ({"pretrained_cfg": {"interpolation": "odd"}}, r"three colours \(.*'ODD'"),
    ],
)
def test_configs_of_other_networks_are_refused(change, message, folder, tmp_path):
    config = json.loads((folder / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, **change}))
    (tmp_path / "model.safetensors").symlink_to(folder / "model.safetensors")
    with pytest.raises(UserError, match=message) as error:
        load_weights("resnet18", tmp_path)
    assert "\n" not in str(error.value)


def test_a_folder_without_weights_and_a_damaged_config(folder, tmp_path):
    with pytest.raises(UserError, match=r"has no model\.safetensors or pytorch_model\.bin"):
        load_weights("resnet18", tmp_path)
    (tmp_path / "model.safetensors").symlink_to(folder / "model.safetensors")
    (tmp_path / "config.json").write_text('{"architecture": ')
    with pytest.raises(UserError, match=r"config\.json: is not JSON"):
        load_weights("resnet18", tmp_path)
    (tmp_path / "config.json").write_text("{}")  # of something else
    assert load_weights("resnet18", tmp_path).preprocessing.crop == 224


def test_arrays_of_another_network_are_listed(folder, tmp_path):
    (tmp_path / "weights").symlink_to(folder / "model.safetensors")
    with pytest.raises(UserError, match=r"no weights of resnet50: missing: layer1\.0\.bn3"):
        load_weights("resnet50", tmp_path / "weights")
