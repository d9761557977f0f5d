"""GoogLeNet, BN-Inception and Inception-v3, which share their modules.

What needs compiling is tested with some of the modules, each kind among them.
"""

import re
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax.traverse_util import flatten_dict

import cnnjax.models.bn_inception
import cnnjax.models.googlenet
import cnnjax.models.inception_v3
from cnnjax import counting
from cnnjax.errors import UserError
from cnnjax.models import build
from cnnjax.models.googlenet import Conv, Fork, Inception, LayerTemplates, no_norm
from cnnjax.ops.activations import ACTIVATIONS
from cnnjax.ops.pooling import max_pool
from tests.counting import parameters, profile, trace
from tests.gradients import assert_every_parameter_gets_a_gradient, compiled

# Name, fields, parameters, multiply-adds of a prediction: GoogLeNet's are those of Caffe's replication,
# torchvision's its own.
COUNTS = [
    ("googlenet", {}, 13_378_280, 1_582_671_872),
    ("googlenet", {"aux_heads": False}, 6_998_552, 1_582_671_872),
    ("googlenet", {"aux_heads": False, "norm": "batch"}, 7_005_832, 1_582_671_872),
    ("googlenet_torchvision", {}, 13_004_888, 1_498_376_192),
    ("googlenet_torchvision", {"aux_heads": False}, 6_624_904, 1_498_376_192),
    (
        "bn_inception",
        {"stem": "separable"},
        11_188_288,
        1_934_857_216,
    ),  # 7 x 7 x 24 + 24 x 64 for 7 x 7 x 3 x 64
    ("bn_inception", {}, 11_194_984, 2_018_851_840),
    ("bn_inception", {"projection": 128}, 11_285_224, 2_032_600_064),
    ("bn_inception", {"projection": 128, "use_bias": True}, 11_295_240, 2_032_600_064),
    ("inception_v3", {}, 27_161_264, 5_713_216_096),
    ("inception_v3", {"aux_heads": False}, 23_834_568, 5_713_216_096),
    ("inception_v3_torchvision", {}, 27_161_264, 5_713_216_096),
]


summary = cache(counting.summary)


@pytest.mark.parametrize(("name", "fields", "expected", "operations"), COUNTS)
def test_counts(name, fields, expected, operations):
    counted = summary(name, **fields)
    assert (counted.parameters, counted.macs) == (expected, operations)


def test_counts_by_a_second_path():
    """Multiply-adds of GoogLeNets with those of the auxiliary heads, which `init` runs."""
    with_heads = {
        "googlenet": (13_378_280, 1_591_044_096), "googlenet_torchvision": (13_004_888, 1_506_748_416)
    }  # fmt: skip
    for name, expected in with_heads.items():
        variables, operations = profile(build(name), (224, 224, 3))
        assert (sum(leaf.size for leaf in jax.tree.leaves(variables["params"])), operations) == expected
    variables, operations = profile(build("inception_v3", aux_heads=False), (299, 299, 3))
    sizes = {path: leaf.size for path, leaf in flatten_dict(variables["params"]).items()}
    assert (sum(sizes.values()), operations) == (23_834_568, 5_713_216_096)
    # Keras leaves out BatchNorm's scale.
    assert sum(size for path, size in sizes.items() if path[-1] != "scale") == 23_817_352


def test_parameters_of_googlenets_rows():
    """Table 1's widths, module by module; the auxiliary heads; other classes and widths."""
    rows = summary("googlenet").layers
    units = {
        "inception3a": 163_696, "inception3b": 388_736, "inception4a": 376_176, "inception4b": 449_160,
        "inception4c": 510_104, "inception4d": 605_376, "inception4e": 868_352, "inception5a": 1_043_456,
        "inception5b": 1_444_080, "auxiliary1": 65_664 + 2_098_176 + 1_025_000,
    }  # fmt: skip
    for unit, expected in units.items():
        assert sum(row.parameters for row in rows if row.name.startswith(unit + "/")) == expected, unit
    assert summary("googlenet", num_classes=10).parameters == 13_378_280 - 990 * (1025 + 2 * 1025)
    half = {layer.name: layer.output for layer in summary("googlenet", width=32).layers}
    assert half["inception5b/branch2/conv2"] == (7, 7, 192)
    assert half["auxiliary2/fc1"] == (512,)


@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("googlenet", (112, 56, 28, 14, 7)),
        ("googlenet_torchvision", (112, 56, 28, 14, 7)),
        ("bn_inception", (112, 56, 28, 14, 7)),
        ("inception_v3", (149, 147, 73, 71, 35, 17, 8)),
    ],
)
def test_resolutions(name, sizes):
    layers = [layer for layer in summary(name).layers if len(layer.output) == 3]
    outputs = [layer.output[0] for layer in layers if "training only" not in layer.kind]
    assert tuple(dict.fromkeys(outputs)) == sizes


@pytest.mark.parametrize(("name", "layers"), [("googlenet", 22), ("bn_inception", 34), ("inception_v3", 48)])
def test_layers_in_depth(name, layers):
    """Along the longest branches: GoogLeNet's 22; 9 more and a module more; 5 + 9 + 3 + 20 + 4 + 6 + 1."""
    rows = [layer for layer in summary(name).layers if layer.parameters and "training" not in layer.kind]
    longest: dict[str, int] = {}
    for row in rows:
        if match := re.fullmatch(r"(\w+)/branch\d/conv(\d)[ab]?", row.name):
            longest[match[1]] = max(longest.get(match[1], 0), int(match[2]))
    alone = sum("/" not in row.name and "bn" not in row.name for row in rows)
    assert alone + sum(longest.values()) == layers


def test_a_separable_stem_is_a_convolution_of_each_colour_then_a_mixture(key):
    """The 7x7x3x64 kernel that the depthwise and the 1x1 kernels amount to gives the same maps."""
    layers = LayerTemplates(nn.Conv, no_norm, lambda name: lambda x: x)
    conv = partial(nn.Conv, bias_init=nn.initializers.normal())

    class Stem(nn.Module):
        @nn.compact
        def __call__(self, x):
            return cnnjax.models.bn_inception.separable_stem(conv, layers, x)

    images = jax.random.normal(key, (2, 16, 16, 3))
    variables = Stem().init(key, images)
    depthwise, mixed = (variables["params"][name]["kernel"] for name in ("conv1_depthwise", "conv1"))
    assert depthwise.shape == (7, 7, 1, 24)
    by_colour = mixed.reshape(3, 8, 64)
    whole = jnp.einsum("hwcm,cmo->hwco", depthwise.reshape(7, 7, 3, 8), by_colour)
    expected = jax.lax.conv_general_dilated(
        images, whole, (2, 2), [(3, 3), (3, 3)], dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    np.testing.assert_allclose(Stem().apply(variables, images), expected, rtol=1e-4, atol=1e-4)


def test_a_module_is_its_branches_side_by_side():
    """Against convolutions and poolings by hand: a chain, a fork, a pooling, in order."""
    layers = LayerTemplates(nn.Conv, no_norm, ACTIVATIONS["relu"])
    pool = partial(max_pool, size=3, strides=1, padding=1)
    branches = ((Conv(2), Conv(3, (1, 3))), (Conv(4), Fork(Conv(2, (1, 3)), Conv(3, (3, 1)))), (pool,))
    module = Inception(branches, layers)
    x = np.random.default_rng(1).standard_normal((2, 5, 6, 3)).astype(np.float32)
    variables = module.init(jax.random.key(0), x)
    params = variables["params"]
    assert set(params) == {"branch1", "branch2"}
    assert set(params["branch2"]) == {"conv1", "conv2a", "conv2b"}

    def conv(x, unit):
        return np.maximum(
            jax.lax.conv_general_dilated(
                x, unit["kernel"], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
            )
            + unit["bias"],
            0,
        )

    stem = conv(x, params["branch2"]["conv1"])
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=-np.inf)
    expected = [
        conv(conv(x, params["branch1"]["conv1"]), params["branch1"]["conv2"]),
        conv(stem, params["branch2"]["conv2a"]),
        conv(stem, params["branch2"]["conv2b"]),
        np.max([padded[:, i : i + 5, j : j + 6] for i in range(3) for j in range(3)], axis=0),
    ]
    actual = module.apply(variables, x)
    np.testing.assert_allclose(actual, np.concatenate(expected, -1), rtol=1e-5, atol=1e-5)


@pytest.fixture
def some_modules(monkeypatch):
    """Fewer modules, every kind among them, so that a program compiles sooner."""

    def keep(file, name, *kept):
        table = getattr(file, name)
        if callable(table):
            monkeypatch.setattr(file, name, lambda field: {key: table(field)[key] for key in kept})
        else:
            monkeypatch.setattr(file, name, {key: table[key] for key in kept})

    keep(cnnjax.models.googlenet, "MODULES", "4a", "4d")
    keep(cnnjax.models.bn_inception, "modules", "3a", "3c", "5b")
    keep(cnnjax.models.inception_v3, "modules", "6a", "6e", "7b")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "fields", "image"),
    [
        ("googlenet", {"auxiliary_pool": "adaptive", "remat": True}, (56, 56, 3)),
        ("googlenet_torchvision", {"dtype": jnp.bfloat16}, (32, 32, 3)),
        ("bn_inception", {"stem": "separable", "activation": "sigmoid", "dropout": 0.2}, (63, 63, 3)),
        ("bn_inception", {}, (63, 63, 3)),
        ("inception_v3", {}, (299, 299, 3)),
    ],
)
@pytest.mark.usefixtures("some_modules")
def test_every_parameter_gets_a_gradient(name, fields, image):
    model = build(name, num_classes=10, width=4, **fields)
    assert_every_parameter_gets_a_gradient(model, image, batch=2 if image[0] == 299 else 8)


@pytest.mark.usefixtures("some_modules")
@pytest.mark.parametrize(
    ("name", "heads"), [("googlenet", 2), ("googlenet_torchvision", 2), ("inception_v3", 1)]
)
def test_auxiliary_logits_are_for_training_only(name, heads):
    model = build(name, width=2, num_classes=7)
    images = jnp.zeros((3, *model.input_shape))
    variables = trace(model, model.input_shape)
    assert "auxiliary" not in variables
    apply = partial(model.apply, rngs={"dropout": jax.random.key(0)}, mutable=["batch_stats", "auxiliary"])
    logits, new = jax.eval_shape(partial(apply, train=True), variables, images)
    sown = jax.tree.leaves(new["auxiliary"])
    assert [(leaf.shape, leaf.dtype) for leaf in sown] == heads * [(logits.shape, logits.dtype)]
    _, new = jax.eval_shape(partial(apply, train=False), variables, images)
    assert "auxiliary" not in new
    without = trace(build(name, width=2, num_classes=7, aux_heads=False), model.input_shape)["params"]
    assert variables["params"].keys() - without.keys() == {
        f"auxiliary{index}" for index in ((1, 2) if heads == 2 else ("",))
    }


def test_weights_of_the_auxiliary_losses():
    assert build("googlenet").auxiliary_weight == 0.3
    assert build("inception_v3").auxiliary_weight == 0.4


@pytest.mark.usefixtures("some_modules")
@pytest.mark.parametrize(
    "name", ["googlenet", "googlenet_torchvision", "inception_v3", "inception_v3_torchvision"]
)
def test_initial_weights_have_the_published_distribution(key, name):
    model = build(name, width=16, num_classes=200)
    drawn = ("conv1", "conv3", "inception4a", "auxiliary", "auxiliary1", "classifier")  # the others alike

    def init(key):
        params = flatten_dict(model.init(key, jnp.zeros((1, *model.input_shape)), train=False)["params"])
        return {path: leaf for path, leaf in params.items() if path[-1] != "kernel" or path[0] in drawn}

    for path, value in compiled(init, key)(key).items():
        value = np.asarray(value)
        if path[-1] != "kernel":
            classifier = path[-2] in ("classifier", "fc", "fc2")
            constant = 0.2 if name == "googlenet" and not classifier else float(path[-1] == "scale")
            assert (value == np.float32(constant)).all(), path
            continue
        if name == "googlenet":
            bound = np.sqrt(3 / np.prod(value.shape[:-1]))
            std = bound / np.sqrt(3)
        else:
            usual = 0.01 if name == "googlenet_torchvision" else 0.1
            std = {"auxiliary/conv2": 0.01, "auxiliary/fc": 0.001}.get("/".join(path[:-1]), usual)
            bound = 2 * std if name == "inception_v3" else np.inf
            std *= 0.87962566 if name == "inception_v3" else 1  # of a normal cut off at 2
        assert abs(value.std() / std - 1) < 4 / np.sqrt(2 * value.size), path
        assert abs(value.mean() / std) < 4 / np.sqrt(value.size), path
        assert np.abs(value).max() <= bound, path


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: build("inception_v4"), "did you mean inception_v3"),
        (lambda: build("googlenet", norm="layer"), "lrn, batch"),
        (lambda: build("googlenet", auxiliary_dropout=1.0), "in [0, 1)"),
        (lambda: build("bn_inception", projection=0), "at least 1"),
        (lambda: build("bn_inception", stem="7x7"), "must be one of separable, dense"),
        (lambda: trace(build("googlenet"), (32, 32, 3)), "at least 47x47"),
        (lambda: trace(build("googlenet"), (64, 64, 3)), "223x223 to 270x270 for the auxiliary heads"),
        (lambda: trace(build("googlenet_torchvision"), (30, 30, 3)), "at least 31x31"),
        (lambda: trace(build("bn_inception"), (64, 80, 3)), "multiples of 32"),
        (lambda: trace(build("bn_inception"), (32, 32, 3)), "multiples of 32, at least 64"),
        (
            lambda: trace(build("inception_v3"), (224, 224, 3)),
            "at least 299x299 for the auxiliary head; aux_",
        ),
        (lambda: trace(build("inception_v3", aux_heads=False), (74, 74, 3)), "at least 75x75"),
    ],
)
def test_bad_names_fields_and_images_say_what_to_type(call, message):
    with pytest.raises(UserError, match=re.escape(message)) as error:
        call()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "size", "fields"),
    [
        ("googlenet", 223, {}),
        ("googlenet", 47, {"aux_heads": False}),
        ("googlenet_torchvision", 31, {}),
        ("bn_inception", 63, {}),
        ("bn_inception", 102, {}),
        ("inception_v3", 75, {"aux_heads": False}),
    ],
)
def test_the_sizes_that_fit_do(name, size, fields):
    expected = next(row[2] for row in COUNTS if row[:2] == (name, fields))
    assert parameters(build(name, **fields), (size, size, 3)) == expected
