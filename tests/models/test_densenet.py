import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax.traverse_util import flatten_dict

from cnnjax.errors import UserError
from cnnjax.models import build
from tests.counting import parameters, profile, random_variables, trace
from tests.gradients import assert_every_parameter_gets_a_gradient, compiled, initial

CIFAR, IMAGENET = (32, 32, 3), (224, 224, 3)

# Name, fields; parameters with the paper's classes (10 or 1000) and, CIFAR, with 100; multiply-adds.
COUNTS = [
    ("densenet40_12", {}, 1_019_722, 1_060_132, 264_812_928),
    ("densenet40_12", {"width": 24, "growth_rate": 12}, 1_059_298, None, 282_917_328),
    ("densenet100_12", {}, 6_979_642, 7_084_852, 1_769_516_448),
    ("densenet100_12", {"width": 24, "growth_rate": 12}, 7_083_538, None, 1_816_743_408),
    ("densenet100_24", {}, 27_249_082, 27_457_972, 6_889_347_744),
    ("densenet100_24", {"width": 48, "growth_rate": 24}, 28_071_706, None, 7_265_623_008),
    ("densenet_bc100_12", {}, 769_162, 800_032, 287_929_692),
    ("densenet_bc250_24", {}, 15_324_406, 15_480_556, 5_418_785_724),
    ("densenet_bc190_40", {}, 25_624_430, 25_821_620, 9_301_945_740),
    ("densenet_bc40_36", {}, 1_542_682, 1_578_412, 647_298_936),
    ("densenet_bc40_48", {}, 2_733_130, 2_780_740, 1_149_867_168),
    ("densenet_bc40_60", {}, 4_261_690, 4_321_180, 1_795_836_360),
    ("densenet121", {}, 7_978_856, None, 2_834_161_664),
    ("densenet161", {}, 28_681_000, None, 7_727_907_072),
    ("densenet169", {}, 14_149_480, None, 3_359_843_328),
    ("densenet201", {}, 20_013_928, None, 4_291_365_888),
    ("densenet264", {}, 33_337_704, None, 5_751_653_376),
    ("densenet264", {"growth_rate": 48}, 72_686_632, None, 12_850_693_632),
]


def count(model):
    """Weighted layers, parameters and multiply-adds by arithmetic, from the network's fields."""
    c, k = model.width, model.growth_rate
    imagenet = model.stem == "imagenet"
    side = 56 if imagenet else 32
    rows = [(112, 147 * c, c) if imagenet else (32, 27 * c, 0)]  # side of the maps, weights, normalised maps
    for block, size in enumerate(model.block_sizes, start=1):
        for _ in range(size):
            if model.layer == "bottleneck":
                rows += [(side, c * 4 * k, c), (side, 9 * 4 * k * k, 4 * k)]
            else:
                rows += [(side, 9 * c * k, c)]
            c += k
        if block < len(model.block_sizes):
            kept = int(model.compression * c)
            rows += [(side, c * kept, c)]
            c, side = kept, side // 2
    rows += [(1, c * model.num_classes, c)]
    parameters = sum(weights + 2 * maps for _, weights, maps in rows) + model.num_classes
    return len(rows), parameters, sum(side**2 * weights for side, weights, _ in rows)


@pytest.mark.parametrize(("name", "fields", "expected", "with_100", "operations"), COUNTS)
def test_counts(name, fields, expected, with_100, operations):
    """Exact ones; and the weighted layers are the depth in the name."""
    layers, *counted = count(build(name, **fields))
    assert counted == [expected, operations]
    assert layers == int(re.search(r"\d+", name).group()) + (name == "densenet264")  # 265, in table 1
    if with_100:
        features = (with_100 - expected) // 90 - 1
        _, *counted = count(build(name, num_classes=100, **fields))
        assert counted == [with_100, operations + 90 * features]


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("densenet16_12", {"width": 24}),
        ("densenet_bc16_12", {}),
        ("densenet13_12", {"compression": 0.3, "num_classes": 7}),
        ("densenet121", {"block_sizes": (1, 2)}),
    ],
)
def test_the_network_has_these_counts(name, fields):
    model = build(name, **fields)
    variables, operations = profile(model, model.input_shape)
    params = flatten_dict(variables["params"])
    layers = sum(path[-1] == "kernel" for path in params)
    assert (layers, sum(leaf.size for leaf in params.values()), operations) == count(model)


def test_other_classes():
    assert build("densenet121").num_classes == 1000
    assert build("densenet40_12").num_classes == 10


def test_bottlenecks_and_compression_go_one_without_the_other():
    """DenseNet-B and DenseNet-C of one layer a block, by hand: growth rate 2, 4 initial channels."""
    bottleneck = build("densenet_bc10_2", compression=1.0)
    layers = sum(2 * (c + 8) + 8 * c + 9 * 16 for c in (4, 6, 8))
    assert parameters(bottleneck) == 27 * 4 + layers + (2 * 6 + 36) + (2 * 8 + 64) + 2 * 10 + 110
    compressed = build("densenet7_2", compression=0.5, width=4, growth_rate=2)
    layers = sum(2 * c + 18 * c for c in (4, 3, 2))  # 4 and 2 to 6, 3; 3 and 2 to 5, 2; 2 and 2
    assert parameters(compressed) == 27 * 4 + layers + (2 * 6 + 18) + (2 * 5 + 10) + 2 * 4 + 50


def test_the_growth_rate_of_a_field_is_that_of_the_name():
    assert build("densenet_bc100_12", growth_rate=24) == build("densenet_bc100_24")
    assert build("densenet40_12", growth_rate=24) == build("densenet40_24")
    assert build("densenet_bc100_12", width=48) == build("densenet_bc100_24")
    assert build("densenet40_12", width=4).growth_rate == 3


def test_names_of_layers():
    params = trace(build("densenet_bc16_4"), CIFAR)["params"]
    layers = {f"block{block}_layer0{layer}" for block in (1, 2, 3) for layer in (1, 2)}
    assert set(params) == {"conv1", *layers, "transition1", "transition2", "bn", "classifier"}
    assert set(params["block1_layer01"]) == {"bn1", "conv1", "bn2", "conv2"}
    assert set(params["transition1"]) == {"bn", "conv"}


def test_a_layer_sees_all_maps_before_it(key):
    """The first transition's input is the stem's output and then each layer's, in order."""
    model = build("densenet13_2", width=3, growth_rate=2)
    variables = random_variables(model, (4, 4, 3))
    images = jax.random.normal(key, (2, 4, 4, 3))

    def maps(images):
        _, seen = model.apply(variables, images, train=False, capture_intermediates=True)
        return {
            path[0]: leaf[0] for path, leaf in flatten_dict(seen["intermediates"]).items() if len(path) == 2
        }

    outputs = compiled(maps, images)(images)
    names = ("conv1", "block1_layer01", "block1_layer02", "block1_layer03")
    maps = np.concatenate([outputs[name] for name in names], axis=-1)
    params, statistics = (variables[kind]["transition1"] for kind in ("params", "batch_stats"))
    maps = (maps - statistics["bn"]["mean"]) / np.sqrt(statistics["bn"]["var"] + 1e-5)
    maps = np.maximum(maps * params["bn"]["scale"] + params["bn"]["bias"], 0)
    expected = (maps @ params["conv"]["kernel"][0, 0]).reshape(2, 2, 2, 2, 2, -1).mean((2, 4))
    np.testing.assert_allclose(outputs["transition1"], expected, rtol=1e-4, atol=1e-5)


def test_initial_weights_have_the_papers_distribution():
    model = build("densenet_bc16_24")
    for path, value in initial(model, (8, 8, 3)).items():
        kind = path.split("/")[-1]
        if kind == "kernel":
            *spatial, inputs, outputs = value.shape
            std = np.sqrt(2 / (np.prod(spatial) * outputs if spatial else inputs))
            assert abs(value.std() / std - 1) < 4 / np.sqrt(2 * value.size), path
            assert abs(value.mean() / std) < 4 / np.sqrt(value.size), path
        else:
            assert (value == (kind == "scale")).all(), path


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("densenet_bc10_4", {"remat": True, "dropout": 0.2}),
        ("densenet121", {"width": 8, "block_sizes": (1, 1), "dtype": jnp.bfloat16, "activation": "prelu"}),
    ],
)
def test_every_parameter_gets_a_gradient(name, fields):
    assert_every_parameter_gets_a_gradient(build(name, num_classes=10, **fields), (16, 16, 3))


@pytest.mark.parametrize(("name", "dropped"), [("densenet7_2", 3 + 2), ("densenet_bc10_2", 6 + 2)])
def test_dropout_follows_every_convolution_but_the_first(name, dropped):
    """Basic: one in each of three layers. Bottlenecks: two. And in the transitions."""
    model = build(name, dropout=0.2)
    _, seen = jax.eval_shape(
        partial(
            model.apply,
            train=True,
            mutable=["batch_stats", "intermediates"],
            rngs={"dropout": jax.random.key(0)},
            capture_intermediates=lambda module, _: isinstance(module, nn.Dropout),
        ),
        trace(model, CIFAR),
        jnp.zeros((1, *CIFAR)),
    )
    assert len(jax.tree.leaves(seen["intermediates"])) == dropped


def test_a_batch_is_its_images_one_by_one(key):
    model = build("densenet_bc10_4")
    images = jax.random.normal(key, (3, 8, 8, 3))
    variables = random_variables(model, (8, 8, 3))

    def both(images):
        one_by_one = jax.vmap(lambda image: model.apply(variables, image[None], train=False)[0])(images)
        return one_by_one, model.apply(variables, images, train=False)

    np.testing.assert_allclose(*compiled(both, images)(images), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: build("densenet41_12"), "depth 41 is not 3n + 4 (nearest: densenet40_12 and densenet43_12)"),
        (lambda: build("densenet_bc41_12"), "not 6n + 4 (nearest: densenet_bc40_12 and densenet_bc46_12)"),
        (lambda: build("densenet3_12"), "nearest: densenet7_12)"),
        (lambda: build("densenet122"), "121, 161, 169, 201, 264"),
        (lambda: build("densenet40_0"), "growth_rate=0: must be at least 1"),
        (lambda: build("densenet40_12", compression=0), "compression=0: must be in (0, 1]"),
        (lambda: build("densenet40_12", dropout=1), "dropout=1: must be in [0, 1)"),
        (lambda: build("densenet40_12", layer="wide"), "basic, bottleneck"),
        (lambda: trace(build("densenet40_12"), (3, 3, 3)), "at least 4x4"),
        (lambda: trace(build("densenet121"), (28, 64, 3)), "at least 29x29"),
    ],
)
def test_bad_names_fields_and_images_say_what_to_type(call, message):
    with pytest.raises(UserError, match=re.escape(message)) as error:
        call()
    assert "\n" not in str(error.value)


def test_the_smallest_images_fit():
    for name, size in (("densenet7_2", 4), ("densenet121", 29)):
        model = build(name)
        trace(model.clone(block_sizes=(1,) * len(model.block_sizes)), (size, size, 3))
