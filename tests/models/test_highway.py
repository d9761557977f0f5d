import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from cnnjax.errors import UserError
from cnnjax.models import build, list_models, stack
from tests.counting import parameters, profile, random_variables, trace
from tests.gradients import assert_every_parameter_gets_a_gradient, compiled, initial

MNIST = (28, 28, 1)

# Name, fields, parameters, multiply-adds, by arithmetic; the paper says 151 K and 2.3 M of the last two.
COUNTS = [
    ("highway10", {}, 85_660, 84_700),
    ("highway20", {}, 136_660, 134_700),
    ("highway50", {}, 289_660, 284_700),
    ("highway100", {}, 544_660, 534_700),
    ("highway10", {"width": 20, "num_classes": 5}, 785 * 20 + 9 * 2 * 420 + 105, None),
    ("highway_plain10", {}, 102_463, 101_743),
    ("highway_plain20", {}, 153_583, 152_153),
    ("highway_plain50", {}, 306_943, 303_383),
    ("highway_plain100", {}, 562_543, 555_433),
    ("highway_mnist10", {}, 151_690, 31_650_624),
    ("highway_mnist10", {"width": 16}, 38_986, None),
    ("highway_cifar19", {}, 2_256_838, 330_826_728),
    ("highway_cifar19", {"num_classes": 100}, 2_256_838 + 90 * 101, None),
]


@pytest.mark.parametrize(("name", "fields", "expected", "operations"), COUNTS)
def test_counts(name, fields, expected, operations):
    model = build(name, **fields)
    variables, counted = profile(model, model.input_shape)
    assert sum(leaf.size for leaf in jax.tree.leaves(variables["params"])) == expected
    assert operations in (None, counted)


@pytest.mark.parametrize("name", list_models("highway*"))
def test_layers_are_the_depth_in_the_name(name):
    """A highway layer is one, though it has two kernels; the fully connected nets don't count the softmax."""
    model = build(name)
    params = trace(model, model.input_shape)["params"]
    uncounted = ["classifier"] if "depth" in type(model).__annotations__ else []
    assert len(params.keys() - uncounted) == int(re.search(r"\d+", name).group())
    gates = {path[0] for path in flatten_dict(params) if "gate" in path}
    if "plain" in name:
        assert not gates
    else:
        first = "stage._block0*1" if "cifar" in name else "stage1_block0*1"
        assert gates == {layer for layer in params if not re.fullmatch(f"{first}|classifier", layer)}


def test_a_field_overrides_the_number_in_the_name():
    assert build("highway50", depth=20) == build("highway20")


def test_a_plain_net_differs_in_the_layer_and_the_papers_width():
    assert build("highway20", layer="plain", width=71) == build("highway_plain20")
    assert parameters(build("highway_cifar19", layer="plain"), (8, 8, 3)) == 1_193_526


def test_a_layer_mixes_what_it_makes_and_what_it_gets():
    """Equation 3 in numpy, for every activation without parameters."""
    functions = {
        "relu": lambda x: np.maximum(x, 0),
        "tanh": np.tanh,
        "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    }
    images = np.random.default_rng(1).standard_normal((3, 4, 4, 2)).astype(np.float32)
    for name, function in functions.items():
        model = build("highway4", width=5, activation=name)
        variables = random_variables(model, images.shape[1:])
        params = variables["params"]
        x = images.reshape(3, -1)
        for index in range(1, 5):
            layer = params[f"stage1_block0{index}"]
            h = function(x @ layer["transform"]["kernel"] + layer["transform"]["bias"])
            if index > 1:
                t = functions["sigmoid"](x @ layer["gate"]["kernel"] + layer["gate"]["bias"])
                h = h * t + x * (1 - t)
            x = h
        expected = x @ params["classifier"]["kernel"] + params["classifier"]["bias"]
        np.testing.assert_allclose(
            model.apply(variables, images, train=False), expected, rtol=1e-4, atol=1e-5
        )


def test_closed_gates_carry_the_input_through_a_stage():
    """With gates shut the MNIST net is its first convolution, three poolings and the classifier."""
    model = build("highway_mnist10", width=2)
    variables = random_variables(model, MNIST)
    params = {
        name: {**layer, "gate": {**layer["gate"], "bias": np.full((2,), -1e4, np.float32)}}
        if "gate" in layer
        else layer
        for name, layer in variables["params"].items()
    }
    images = np.random.default_rng(1).standard_normal((2, *MNIST)).astype(np.float32)
    first = params["stage1_block01"]["transform"]
    x = jax.lax.conv_general_dilated(
        images, first["kernel"], (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    x = np.maximum(x + first["bias"], 0)

    def pooled(x, size):  # rounded up: the last window reaches beyond the maps
        side = x.shape[1] // 2
        windows = [[x[:, 2 * i : 2 * i + size, 2 * j : 2 * j + size].max((1, 2)) for j in range(side)]
                   for i in range(side)]  # fmt: skip
        return np.moveaxis(np.array(windows), 2, 0)

    x = pooled(pooled(pooled(x, 3), 3), 2).reshape(2, 18)
    expected = x @ params["classifier"]["kernel"] + params["classifier"]["bias"]
    actual = model.apply({"params": params}, images, train=False)
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-5)


def test_scanned_unrolled_and_stacked_layers_are_one_function():
    images = np.random.default_rng(1).standard_normal((2, 6, 6, 1)).astype(np.float32)
    net = {loop: build("highway30", width=4, loop=loop) for loop in ("auto", "unrolled")}
    variables = random_variables(net["auto"], images.shape[1:])
    expected = net["unrolled"].apply(variables, images, train=False)
    for layout in (variables, stack(variables)):
        np.testing.assert_allclose(net["auto"].apply(layout, images, train=False), expected, rtol=1e-4)


def test_a_hundred_layers_are_a_program_as_small_as_twenty():
    def equations(name):
        model = build(name)
        variables = stack(trace_by_shape(model))
        return len(
            str(jax.make_jaxpr(lambda v: model.apply(v, jnp.zeros((1, *MNIST)), train=False))(variables))
        )

    def trace_by_shape(model):
        return jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), trace(model, MNIST))

    assert equations("highway100") < 1.05 * equations("highway20")


def test_initial_weights_have_the_papers_distribution():
    """Caffe's xavier, uniform with variance 1 / fan-in; dense ones normal with twice that."""
    assert build("highway_cifar19").transform_bias == -2
    for name, bias in (("highway3", -2), ("highway_mnist10", -1)):
        dense = name == "highway3"
        model = build(name, **({} if dense else {"stage_sizes": (2, 1, 1)}))
        for path, value in initial(model, model.input_shape).items():
            if path.endswith("bias"):
                assert (value == (bias if "gate" in path else 0)).all(), path
                continue
            fan_in = np.prod(value.shape[:-1])
            if "classifier" in path and not dense:
                std, bound = 0.1, np.inf
            else:
                std, bound = (np.sqrt(2 / fan_in), np.inf) if dense else (fan_in**-0.5, np.sqrt(3 / fan_in))
            assert abs(value.std() / std - 1) < 4 / np.sqrt(2 * value.size), path
            assert abs(value.mean() / std) < 4 / np.sqrt(value.size), path
            assert np.abs(value).max() <= bound, path


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "fields", "image"),
    [
        ("highway20", {"width": 8, "remat": True, "activation": "tanh"}, (6, 6, 1)),
        ("highway_plain4", {"width": 8, "activation": "prelu", "dtype": jnp.bfloat16}, (6, 6, 1)),
        ("highway_mnist10", {"width": 6, "stage_sizes": (2, 2, 1), "dtype": jnp.bfloat16}, (24, 24, 1)),
        ("highway_cifar19", {"width": 6, "stage_sizes": (2, 1, 2), "remat": True}, (8, 8, 3)),
    ],
)
def test_every_parameter_gets_a_gradient(name, fields, image):
    assert_every_parameter_gets_a_gradient(build(name, **fields), image)


def test_a_batch_is_its_images_one_by_one():
    model = build("highway_cifar19", width=4, stage_sizes=(2, 1, 1))
    images = np.random.default_rng(1).standard_normal((3, 8, 8, 3)).astype(np.float32)
    variables = random_variables(model, images.shape[1:])

    def both(images):
        def predict(images):
            return model.apply(variables, images, train=False)

        return predict(images), jax.vmap(lambda image: predict(image[None])[0])(images)

    np.testing.assert_allclose(*compiled(both, images)(images), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: build("highway0"), "depth=0: must be at least 1"),
        (lambda: build("highway50", layer="gated"), "highway, plain"),
        (lambda: build("highway50", activation="swish"), "relu"),
        (lambda: build("highway_cifar32"), "did you mean highway_cifar19"),
        (lambda: build("highway_cifar19", stage_sizes=(5, 0, 6)), "at least 1"),
        (lambda: build("highway_mnist10", dropout=(0.2, 0.3, 0.4, 1.5)), "in [0, 1)"),
        (lambda: build("highway_mnist10", dropout=(0.2,)), "4 rates"),
        (lambda: trace(build("highway_mnist10"), (32, 32, 1)), "24x24 to 31x31"),
        (lambda: trace(build("highway_cifar19"), (2, 32, 3)), "at least 3x3"),
    ],
)
def test_bad_names_fields_and_images_say_what_to_type(call, message):
    with pytest.raises(UserError, match=re.escape(message)) as error:
        call()
    assert "\n" not in str(error.value)


def test_the_sizes_that_fit_do():
    for name, sizes in (("highway_mnist10", (24, 31)), ("highway_cifar19", (3,))):
        for size in sizes:
            model = build(name)
            image = (size, size, model.input_shape[-1])
            assert parameters(model, image) == parameters(model, model.input_shape)
