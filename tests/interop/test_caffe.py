"""Caffe's files, written here byte by byte, and logits that PyTorch computed.

tests/reference/make_caffe_reference.py says how.
"""

import dataclasses

import numpy as np
import pytest

from cnnjax.errors import UserError
from cnnjax.interop import caffe, load_weights, preprocess, read_weights
from cnnjax.models import build
from tests.interop.double import logits64
from tests.reference.make_caffe_reference import FILE, SIDES, images_of, weights_of
from tests.reference.make_timm_reference import picture

ORDERS = {
    "alexnet": ("norm1", "pool1"),
    "caffenet": ("pool1", "norm1"),
    "googlenet": ("pool1/3x3_s2", "pool1/norm1"),
}


def varint(number):
    groups = [number >> shift & 127 for shift in range(0, max(1, number.bit_length()), 7)]
    return bytes([*(group | 128 for group in groups[:-1]), groups[-1]])


def field(number, content):
    """A field of bytes or an integer, as protocol buffers write it."""
    if isinstance(content, int):
        return varint(number << 3) + varint(content)
    return varint(number << 3 | 2) + varint(len(content)) + content


def blob(value, old):
    data = field(5, np.ascontiguousarray(value, "<f4").tobytes())
    if old:
        sides = (1,) * (4 - value.ndim) + value.shape
        return b"".join(field(number, side) for number, side in enumerate(sides, start=1)) + data
    return data + field(7, field(1, b"".join(map(varint, value.shape))))


def caffemodel(weights, order, old):
    """A file with the blobs and, in this order, two layers without any."""
    blobs = {}
    for key, value in weights.items():
        blobs.setdefault(key.rpartition("/")[0], []).append(blob(value, old))
    layer, name, each = (2, 4, 6) if old else (100, 1, 7)
    content = field(1, b"net")
    for one, arrays in [*blobs.items(), *((empty, []) for empty in order)]:
        content += field(layer, field(name, one.encode()) + b"".join(field(each, array) for array in arrays))
    return content


@pytest.mark.parametrize("old", [False, True])
def test_files_in_the_old_and_the_new_form(old, tmp_path):
    draw = np.random.RandomState(0)
    weights = {"a/b/0": draw.randn(2, 3, 5, 4), "a/b/1": draw.randn(200), "fc/0": draw.randn(2, 3)}
    (tmp_path / "net").write_bytes(caffemodel(weights, ("pool",), old))
    found = read_weights(tmp_path / "net")
    assert list(found) == ["a.b.weight", "a.b.bias", "fc.weight", "pool"]
    for value, expected in zip(found.values(), [*weights.values(), np.zeros(0)], strict=True):
        np.testing.assert_array_equal(value, expected.astype(np.float32), strict=True)


@pytest.mark.parametrize("name", SIDES)
def test_logits(name, tmp_path):
    (tmp_path / "net").write_bytes(caffemodel(weights_of(name), ORDERS[name], old=name == "googlenet"))
    weights = read_weights(tmp_path / "net")
    (family,) = (one for one in caffe.FAMILIES if one.fits(weights))
    if name != "googlenet":
        family = dataclasses.replace(family, options={**family.options, "width": 12})
    model, variables = family.load(name, weights)
    with np.load(FILE) as file:
        expected = file[name]
    logits = logits64(model, variables, images_of(name))
    np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-10 * np.abs(expected).max())


def test_a_file_is_known_by_its_content(tmp_path):
    (tmp_path / "net").write_bytes(caffemodel(weights_of("googlenet"), ORDERS["googlenet"], old=True))
    model, variables, how = load_weights("googlenet", tmp_path / "net")
    assert model == build("googlenet", num_classes=10)
    assert set(variables["params"]) > {"auxiliary1", "auxiliary2"}
    assert how.crop == 224
    pixels = preprocess(picture(), how)
    plain = preprocess(picture(), how._replace(mean=(0, 0, 0)))
    np.testing.assert_allclose(plain - pixels, np.broadcast_to([123.0, 117.0, 104.0], plain.shape), rtol=1e-5)


def test_heads_need_not_be_there():
    weights = {
        f"{key[:-2].replace('/', '.')}.{('weight', 'bias')[int(key[-1])]}": value
        for key, value in weights_of("googlenet").items()
        if not key.startswith(("loss1", "loss2"))
    }
    family = caffe.FAMILIES[-1]
    model, variables = family.load("googlenet", weights)
    assert model == build("googlenet", num_classes=10, aux_heads=False)
    assert "auxiliary1" not in variables["params"]


def test_what_is_no_network_of_caffe(tmp_path):
    weights = weights_of("alexnet")
    content = caffemodel(weights, ORDERS["alexnet"], old=False)
    for keep in (1, 5, 100, len(content) // 2):
        (tmp_path / "cut").write_bytes(content[:keep])
        with pytest.raises(UserError, match=r"cut is no file of weights that can be read") as error:
            read_weights(tmp_path / "cut")
        assert "\n" not in str(error.value)
    (tmp_path / "net").write_bytes(content)
    with pytest.raises(UserError, match="no weights of googlenet: missing: "):
        load_weights("googlenet", tmp_path / "net")
    with pytest.raises(UserError, match=r"wrong shapes: .*conv1\.weight \(12, 3, 11, 11\) for \(96"):
        load_weights("caffenet", tmp_path / "net")
    (tmp_path / "three").write_bytes(caffemodel({f"bn/{i}": np.zeros(2) for i in range(3)}, (), old=False))
    with pytest.raises(UserError, match="its layer bn has 3 arrays, not a kernel and a bias"):
        read_weights(tmp_path / "three")


def test_fields_of_the_response_normalisation_are_off():
    model = build("alexnet")
    assert (model.lrn_k, model.lrn_across, model.lrn_after) == (2.0, "tower", "activation")
    with pytest.raises(UserError, match="lrn_across"):
        build("alexnet", lrn_across="towers")
    with pytest.raises(UserError, match="lrn_after"):
        build("alexnet", lrn_after="conv")
