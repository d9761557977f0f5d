"""Torchvision's weights in and out, against its stored names, shapes and logits.

tests/reference/make_torchvision_reference.py made them, and says how.
"""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import cnnjax
from cnnjax.errors import UserError
from cnnjax.interop import from_torchvision, to_torchvision
from cnnjax.interop.family import as_numpy
from cnnjax.interop.pytorch import TRACKED, unwrapped
from cnnjax.interop.torchvision import find
from cnnjax.models import stack
from tests.interop.stored import shapes_of, stored
from tests.reference.make_torchvision_reference import FILE, LOGITS, draw_images, draw_weights

reference = stored(FILE)


def weights_of(name, reference):
    return draw_weights(shapes_of(name, reference))


@pytest.mark.parametrize(
    "name", ["wide_resnet50_2", "resnext50_32x4d", "densenet121", "vgg11_bn", "googlenet"]
)
def test_names_and_shapes(name, reference):
    """Of all weights, and no number: those below come back bit by bit."""
    shapes = {key: shape for key, shape in shapes_of(name, reference).items() if not key.endswith(TRACKED)}
    family, _ = find(name)
    # The fields are those of the weights, as the number of classes is.
    fields = family.fields({key: np.zeros(shape[:1]) for key, shape in shapes.items()})
    arrays = family.arrays(cnnjax.build(family.ours.format(name), **fields))
    assert {array.name: array.shape for array in arrays} == shapes
    for array in arrays:
        assert array.ours(np.broadcast_to(np.float32(0), array.shape)).shape == array.our_shape


def assert_equal(back, weights):
    assert set(back) == set(weights)
    for key, value in weights.items():
        assert back[key].dtype == value.dtype, key
        assert back[key].flags.c_contiguous, key
        np.testing.assert_array_equal(back[key], value, err_msg=key)


@pytest.mark.parametrize(
    "name",
    ["resnet18", *(pytest.param(name, marks=pytest.mark.slow) for name in ("alexnet", "inception_v3"))],
)
def test_logits(name, reference):
    weights = weights_of(name, reference)
    model, variables = from_torchvision(name, weights)
    model = model.clone(convolution="native")  # compiles sooner
    logits = jax.jit(lambda v, x: model.apply(v, x, train=False))(variables, draw_images(LOGITS[name]))
    expected = reference[f"logits/{name}"]
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())
    assert_equal(to_torchvision(name, variables), weights)


def test_classes_of_the_weights_stacked_variables_and_either_name(reference):
    weights = weights_of("resnet34", reference)
    weights["fc.weight"], weights["fc.bias"] = weights["fc.weight"][:3], weights["fc.bias"][:3]
    model, variables = from_torchvision("resnet34_torchvision", weights)
    assert model == cnnjax.build("resnet34_torchvision", num_classes=3)
    assert_equal(to_torchvision("resnet34", stack(variables)), weights)


@pytest.fixture
def resnet18(reference):
    return weights_of("resnet18", reference)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w.pop("layer1.0.bn1.running_var"), "missing: layer1.0.bn1.running_var"),
        (lambda w: w.pop("fc.bias"), "missing: fc.bias"),
        (lambda w: w.update(extra=np.zeros(3)), "unexpected: extra"),
        (lambda w: w.update({"fc.num_batches_tracked": np.zeros(())}), "unexpected: fc.num_batches_tracked"),
        (
            lambda w: w.update({"conv1.weight": np.zeros((64, 1, 7, 7), np.float32)}),
            "wrong shapes: conv1.weight (64, 1, 7, 7) for (64, 3, 7, 7)",
        ),
    ],
)
def test_what_does_not_fit_is_listed(resnet18, change, message):
    change(resnet18)
    with pytest.raises(UserError, match=re.escape(message)) as error:
        from_torchvision("resnet18", resnet18)
    assert "\n" not in str(error.value)


def test_all_that_does_not_fit_is_listed_at_once(resnet18):
    del resnet18["layer4.1.conv2.weight"], resnet18["bn1.bias"]
    resnet18["layer5.weight"] = np.zeros(1)
    with pytest.raises(UserError) as error:
        from_torchvision("resnet18", resnet18)
    for word in ("bn1.bias", "layer4.1.conv2.weight", "layer5.weight"):
        assert word in str(error.value)


def test_what_does_not_fit_on_the_way_out_is_listed(resnet18):
    _, variables = from_torchvision("resnet18", resnet18)
    del variables["params"]["bn1"]
    variables["params"]["conv1"]["kernel"] = jnp.zeros((3, 3, 3, 64))
    variables["params"]["conv9"] = {"kernel": jnp.zeros(1)}
    with pytest.raises(UserError) as error:
        to_torchvision("resnet18", variables)
    for text in (
        "missing: params/bn1/bias, params/bn1/scale",
        "unexpected: params/conv9/kernel",
        "wrong shapes: params/conv1/kernel (3, 3, 3, 64) for (7, 7, 3, 64)",
    ):
        assert text in str(error.value)


def test_what_wraps_a_network_is_left_out_of_its_names(resnet18):
    _, plain = from_torchvision("resnet18", resnet18)
    wrapped = {f"module._orig_mod.{name}": value for name, value in resnet18.items()}
    averaged = {"n_averaged": np.array(7), **wrapped}
    _, variables = from_torchvision("resnet18", {"epoch": 3, "state_dict": averaged, "optimizer": {}})
    assert jax.tree.all(jax.tree.map(np.array_equal, plain, variables))
    for around in ("module.", "_orig_mod.", "model.", "net.", "encoder.0."):
        names = {around + name: index for index, name in enumerate(resnet18)}
        assert unwrapped(names, "fc.bias") == dict(zip(resnet18, range(len(resnet18)), strict=True))
    assert unwrapped({"fc.weight": 0, "fc.bias": 1}, "fc.bias") == {"fc.weight": 0, "fc.bias": 1}
    assert unwrapped({}, "fc.bias") == {}


def test_tensors_of_pytorch_are_taken_from_any_device():
    class Tensor:
        def detach(self):
            return self

        cpu = float = detach

        def numpy(self):
            return np.ones(3)

    np.testing.assert_array_equal(as_numpy(Tensor()), np.ones(3, np.float32), strict=True)


def test_a_long_list_is_cut(resnet18):
    with pytest.raises(UserError, match=r"missing: .* and \d+ more; unexpected: .* and 112 more$") as error:
        from_torchvision("resnet18", {f"{name}.x": value for name, value in resnet18.items()})
    assert len(str(error.value)) < 1000


def test_steps_counted_by_batch_norm_need_not_be_there(resnet18):
    counted = {key for key in resnet18 if key.endswith("num_batches_tracked")}
    _, variables = from_torchvision("resnet18", {k: v for k, v in resnet18.items() if k not in counted})
    assert counted < set(to_torchvision("resnet18", variables))


def test_an_unknown_network():
    with pytest.raises(UserError, match="no 'resnet19x'"):
        from_torchvision("resnet19x", {})
    with pytest.raises(UserError, match="18, 34, 50"):
        from_torchvision("resnet19", {})
