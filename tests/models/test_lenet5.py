import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from cnnjax.counting import summary
from cnnjax.errors import UserError
from cnnjax.models import build
from cnnjax.models.lenet5 import C3_INPUTS, CODES, PartialConv, Subsampling, map_loss
from tests.counting import parameters, profile, trace
from tests.gradients import assert_every_parameter_gets_a_gradient, initial


@pytest.mark.parametrize(
    ("name", "size", "fields", "expected"),
    [
        ("lenet5", 32, {}, (60_000, 325_680)),
        ("lenet5", 28, {"padding": 2}, (60_000, 325_680)),
        ("lenet5_modern", 32, {}, (61_706, 416_520)),
        ("lenet5_modern", 28, {"padding": 2}, (61_706, 416_520)),
        ("lenet5_modern", 28, {}, (44_426, 281_640)),
        ("lenet_caffe", 28, {}, (431_080, 2_293_000)),
    ],
)
def test_parameters_and_multiply_adds(name, size, fields, expected):
    variables, multiply_adds = profile(build(name, **fields), (size, size, 1))
    assert (sum(leaf.size for leaf in jax.tree.leaves(variables["params"])), multiply_adds) == expected


def test_parameters_of_each_layer_are_the_papers():
    params = trace(build("lenet5"), (32, 32, 1))["params"]
    counts = {layer: sum(leaf.size for leaf in leaves.values()) for layer, leaves in params.items()}
    assert counts == {"c1": 156, "s2": 12, "c3": 1_516, "s4": 32, "c5": 48_120, "f6": 10_164}


def test_connections_and_receptive_fields_are_the_papers():
    layers = {layer.name: (layer.connections, layer.receptive_field) for layer in summary("lenet5").layers}
    assert layers == {
        "c1": (122_304, 5), "s2": (5_880, 6), "c3": (151_600, 14), "s4": (2_000, 16), "c5": (48_120, 32),
        "f6": (10_164, 32), "output": (840, 32),
    }  # fmt: skip


def test_widths_and_classes():
    filters = (3, 8, 60, 42)
    expected = 26 * 3 + (75 + 1) * 8 + (200 + 1) * 60 + 61 * 42 + 43 * 7
    assert parameters(build("lenet5_modern", width=filters[0], num_classes=7), (32, 32, 1)) == expected
    assert parameters(build("lenet5", num_classes=3), (32, 32, 1)) == 60_000


def test_partial_connections_are_a_convolution_with_zeros(key):
    net = PartialConv()
    x = jax.random.normal(key, (2, 14, 14, 6))
    variables = net.init(key, x)
    variables["params"]["bias"] = jnp.arange(16.0)
    dense = np.zeros((5, 5, 6, 16), np.float32)
    for i in range(6):
        outs = [out for out in range(16) if i in C3_INPUTS[out]]
        dense[:, :, i, outs] = variables["params"]["kernel"][:, :, i]
    expected = jax.lax.conv_general_dilated(
        x, dense, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    np.testing.assert_allclose(net.apply(variables, x), expected + np.arange(16), rtol=1e-4, atol=1e-5)


def test_subsampling_by_hand():
    x = jnp.array([[1.0, 2], [3, 5]])[None, :, :, None]
    params = {"coefficient": jnp.array([0.5]), "bias": jnp.array([-1.0])}
    np.testing.assert_allclose(Subsampling().apply({"params": params}, x).ravel(), [4.5])


def test_codes_are_ten_different_signs():
    assert CODES.shape == (10, 84)
    assert set(np.unique(CODES)) == {-1, 1}
    distances = np.square(CODES[:, None] - CODES).sum(-1)
    assert (distances + 100 * np.eye(10) > 50).all()


def test_a_hidden_code_is_recognised():
    """With all weights zero, F6's biases are what the outputs compare with their codes."""
    model = build("lenet5")
    variables = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape), trace(model, (32, 32, 1)))
    for digit in (0, 7):
        variables["params"]["f6"]["bias"] = jnp.asarray(CODES[digit])
        logits = model.apply(variables, jnp.zeros((1, 32, 32, 1)), train=False)[0]
        np.testing.assert_allclose(logits, -np.square(CODES - CODES[digit]).sum(1), atol=1e-2)


def test_map_loss_by_hand_and_its_limit():
    logits, labels = jnp.array([[-1.0, -3, -2], [-90, -80, -100]]), jnp.array([1, 0])
    by_hand = [3 + np.log(np.exp(-0.5) + np.exp(-1) + np.exp(-3) + np.exp(-2)), 90 - 0.5]
    np.testing.assert_allclose(map_loss(logits, labels, 0.5), by_hand, rtol=1e-6)
    cross_entropy = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    np.testing.assert_allclose(map_loss(logits, labels, 1e6), cross_entropy, rtol=1e-6)


def assert_uniform(values, bound):
    assert np.abs(values).max() <= bound
    error = 4 * np.sqrt(0.8 / values.size) / 2  # four standard errors of the standard deviation
    assert abs(values.std() * np.sqrt(3) / bound - 1) < error
    assert abs(values.mean()) < 4 * values.std() / np.sqrt(values.size)


def test_initial_weights_have_the_papers_distribution():
    params = initial(build("lenet5"), (32, 32, 1))
    fan_in = {"c1": 25, "c5": 400, "f6": 120}
    for layer, inputs in fan_in.items():
        assert_uniform(params[f"{layer}/kernel"], 2.4 / inputs)
    inputs = np.array(
        [[25 * len(seen) for seen in C3_INPUTS if i in seen] for i in range(6)]
    )  # of the map that a weight leads to
    assert_uniform(params["c3/kernel"] * inputs, 2.4)
    for layer in ("s2", "s4"):
        assert_uniform(params[f"{layer}/coefficient"], 2.4 / 4)
    assert all(not value.any() for path, value in params.items() if path.endswith("bias"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "image", "fields"),
    [
        ("lenet5", (28, 28, 1), {"padding": 2}),
        ("lenet5_modern", (16, 16, 1), {"dtype": jnp.bfloat16, "activation": "prelu"}),
        ("lenet_caffe", (28, 28, 1), {"width": 2}),
    ],
)
def test_every_parameter_gets_a_gradient(name, image, fields):
    assert_every_parameter_gets_a_gradient(build(name, **fields), image, batch=4)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: trace(build("lenet5"), (28, 28, 1)), "28x28 with padding=2: not 28x28 with padding=0"),
        (lambda: trace(build("lenet5_modern"), (30, 30, 1)), "multiples of 4 and at least 16"),
        (lambda: trace(build("lenet_caffe"), (32, 32, 1)), "lenet_caffe takes images of 28x28: not 32x32"),
        (lambda: build("lenet5", num_classes=100), "codes for 10 digits; try lenet5_modern"),
        (lambda: build("lenet5", width=3), "has no field 'width'"),
        (lambda: build("lenet5_modern", activation="step"), "must be one of sigmoid, tanh"),
        (lambda: build("lenet5_modern", dropout=1.0), "must be in [0, 1)"),
    ],
)
def test_bad_sizes_and_fields_say_what_fits(call, message):
    with pytest.raises(UserError, match=re.escape(message)) as error:
        call()
    assert "\n" not in str(error.value)
