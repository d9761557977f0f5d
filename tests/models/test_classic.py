"""AlexNet, the CIFAR-10 nets around it, ZFNet, VGG and Network in Network."""

import itertools
import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from cnnjax.errors import UserError
from cnnjax.models import build
from tests.counting import parameters, profile, random_variables, trace
from tests.gradients import assert_every_parameter_gets_a_gradient, compiled, initial

# (name, side of the image, fields): parameters and multiply-adds.
COUNTS = [
    ("alexnet", 227, {}, 60_965_224, 724_406_816),
    ("alexnet", 224, {}, 60_965_224, 724_406_816),
    ("alexnet", 227, {"groups": 1}, 62_378_344, 1_135_256_096),
    ("alexnet", 227, {"pool_size": 2}, 60_965_224, 724_406_816),
    ("alexnet_torchvision", 224, {}, 61_100_840, 714_188_480),
    ("alexnet_cifar", 32, {}, 89_578, 12_298_240),
    ("cuda_convnet_80sec", 32, {}, 145_578, 12_354_176),
    ("cuda_convnet_18pct", 32, {}, 89_578, 12_298_240),
    ("cuda_convnet_13pct", 32, {}, 1_901_386, 32_919_552),
    ("cuda_convnet_11pct", 32, {}, 3_672_906, 34_689_024),
    ("zfnet", 224, {}, 62_357_608, 1_168_032_896),
    ("zfnet_b", 224, {}, 107_627_624, 2_476_704_896),
    ("vgg11", 224, {}, 132_863_336, 7_609_090_048),
    ("vgg11_lrn", 224, {}, 132_863_336, 7_609_090_048),
    ("vgg13", 224, {}, 133_047_848, 11_308_466_176),
    ("vgg_c", 224, {}, 133_638_952, 11_770_888_192),
    ("vgg16", 224, {}, 138_357_544, 15_470_264_320),
    ("vgg19", 224, {}, 143_667_240, 19_632_062_464),
    ("vgg11_bn", 224, {}, 132_868_840, 7_609_090_048),
    ("vgg13_bn", 224, {}, 133_053_736, 11_308_466_176),
    ("vgg_c_bn", 224, {}, 133_647_400, 11_770_888_192),
    ("vgg16_bn", 224, {}, 138_365_992, 15_470_264_320),
    ("vgg19_bn", 224, {}, 143_678_248, 19_632_062_464),
    ("vgg11_bn", 32, {"head": "cifar"}, 9_231_114, 152_769_536),
    ("vgg13_bn", 32, {"head": "cifar"}, 9_416_010, 228_267_008),
    ("vgg_c_bn", 32, {"head": "cifar"}, 10_009_674, 237_704_192),
    ("vgg16_bn", 32, {"head": "cifar"}, 14_728_266, 313_201_664),
    ("vgg19_bn", 32, {"head": "cifar"}, 20_040_522, 398_136_320),
    ("nin_cifar10", 32, {}, 966_986, 222_486_528),
    ("nin_cifar100", 32, {}, 984_356, 223_592_448),
    ("nin_imagenet", 224, {}, 7_595_176, 1_100_188_800),
]


@pytest.mark.parametrize(("name", "side", "fields", "expected", "macs"), COUNTS)
def test_parameters_and_multiply_adds(name, side, fields, expected, macs):
    model = build(name, **fields)
    assert side in (model.input_shape[0], 224 if name == "alexnet" else None)
    variables, multiply_adds = profile(model, (side, side, 3))
    assert sum(leaf.size for leaf in jax.tree.leaves(variables["params"])) == expected
    assert multiply_adds == macs


@pytest.mark.parametrize(
    ("name", "layers"),
    [("alexnet", 8), ("alexnet_torchvision", 8), ("alexnet_cifar", 4), ("zfnet", 8), ("vgg_c", 16),
     ("nin_cifar10", 9), ("nin_imagenet", 12), *((f"vgg{depth}", depth) for depth in (11, 13, 16, 19))],
)  # fmt: skip
def test_weighted_layers(name, layers):
    model = build(name, width=4)
    kernels = [path for path in flatten_dict(trace(model, model.input_shape)["params"]) if "kernel" in path]
    assert len(kernels) == layers


def test_widths_keep_the_ratios():
    shapes = jax.tree.map(jnp.shape, trace(build("alexnet", width=6), (227, 227, 3))["params"])
    assert {layer: leaves["kernel"] for layer, leaves in shapes.items()} == {
        "conv1": (11, 11, 3, 6), "conv2": (5, 5, 3, 16), "conv3": (3, 3, 16, 24), "conv4": (3, 3, 12, 24),
        "conv5": (3, 3, 12, 16), "fc6": (6 * 6 * 16, 256), "fc7": (256, 256), "fc8": (256, 1000),
    }  # fmt: skip
    filters = [3, 2, 4, 8, 8, 16, 16, 16, 16]
    expected = sum(9 * c_in * c_out + c_out for c_in, c_out in itertools.pairwise(filters))
    expected += (49 * 16 + 1) * 128 + 129 * 128 + 129 * 7
    assert parameters(build("vgg11", width=2, num_classes=7), (224, 224, 3)) == expected


def test_the_stages_are_a_field_too():
    model = build("vgg11", stages=[[3], [3, 1]], width=2, head="cifar")
    assert model == build("vgg16", stages=((3,), (3, 1)), width=2, head="cifar")
    assert model.num_classes == 10


def assert_std(values, std, kurtosis):
    """A standard deviation, within four standard errors, and a mean of zero."""
    assert abs(values.std() / std - 1) < 4 * math.sqrt((kurtosis - 1) / 4 / values.size)
    assert abs(values.mean() / std) < 4 / math.sqrt(values.size)


NIN_100 = {"conv1": 0.001, "cccp1": 0.01, "cccp2": 0.01}
NIN_IMAGENET = {"conv1": 0.01, "conv3": 0.01, "cccp8": 0.01}


@pytest.mark.parametrize(
    ("name", "fields", "std", "others"),
    [
        ("alexnet", {"width": 6}, 0.01, {}),
        ("zfnet", {"width": 6}, 0.01, {}),
        ("vgg11_bn", {"width": 2}, 0.1, {}),
        ("nin_cifar100", {"width": 16}, 0.05, NIN_100),
        ("nin_imagenet", {"width": 16}, 0.05, NIN_IMAGENET),
        ("cuda_convnet_80sec", {}, 0.01, {"conv1": 0.0001, "hidden": 0.1, "classifier": 0.1}),
        ("cuda_convnet_11pct", {"width": 16}, 0.01, {"conv1": 0.0001, "local3": 0.04, "local4": 0.04}),
    ],
)
def test_initial_weights_have_the_papers_distribution(name, fields, std, others):
    ones = {f"{layer}/bias" for layer in ("conv2", "conv4", "conv5", "fc6", "fc7") if name == "alexnet"}
    model = build(name, **fields)
    for path, value in initial(model, model.input_shape).items():
        layer, kind = path.split("/")
        if kind == "kernel":
            assert_std(value, others.get(layer, std), kurtosis=3)
        else:
            assert (value == (kind == "scale" or path in ones)).all(), path


def test_initial_weights_as_torchvisions():
    vgg = build("vgg11", width=2, kernel_init="torchvision", head="cifar")
    for path, value in initial(vgg, vgg.input_shape).items():
        if path.endswith("bias"):
            assert not value.any()
        else:
            assert_std(value, 0.01 if "classifier" in path else math.sqrt(2 / (9 * value.shape[-1])), 3)
    alexnet = build("alexnet_torchvision", width=8)
    params = initial(alexnet, alexnet.input_shape)
    for path, value in params.items():
        bound = math.prod(params[path.replace("bias", "kernel")].shape[:-1]) ** -0.5
        assert np.abs(value).max() <= bound
        assert_std(value, bound / math.sqrt(3), kurtosis=1.8)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "side", "fields"),
    [
        ("alexnet", 224, {"width": 6}),
        ("alexnet_torchvision", 63, {"width": 4, "activation": "leaky_relu"}),
        ("alexnet_cifar", 16, {"width": 4, "activation": "tanh", "dtype": jnp.bfloat16}),
        ("cuda_convnet_80sec", 16, {"width": 4}),
        ("cuda_convnet_18pct", 16, {"width": 4}),
        ("cuda_convnet_11pct", 16, {"width": 4}),
        ("zfnet_b", 224, {"width": 4, "dtype": jnp.bfloat16}),
        ("vgg11_lrn", 224, {"width": 2, "activation": "prelu"}),
        ("vgg_c_bn", 32, {"width": 2, "head": "cifar", "dtype": jnp.bfloat16, "stages": ((3,), (3, 1))}),
        ("nin_cifar10", 16, {"width": 16, "activation": "elu"}),
    ],
)
def test_every_parameter_gets_a_gradient(name, side, fields):
    model = build(name, num_classes=4, **fields)
    assert_every_parameter_gets_a_gradient(model, (side, side, 3), batch=4)


def test_the_towers_of_alexnet_meet_only_where_they_should(key):
    """What conv1 makes on one GPU reaches conv2's output on that GPU alone; conv3 sees both."""
    model = build("alexnet", width=4, lrn=False)
    variables = random_variables(model, (227, 227, 3))
    images = jax.random.normal(key, (1, 227, 227, 3))
    changed = jax.tree.map(lambda leaf: leaf, variables)
    changed["params"]["conv1"] = {
        name: np.concatenate([leaf[..., :2], -leaf[..., 2:]], -1)
        for name, leaf in variables["params"]["conv1"].items()
    }

    def maps(variables):
        _, state = model.apply(variables, images, train=False, capture_intermediates=True)
        return {name: state["intermediates"][name]["__call__"][0] for name in ("conv2", "conv3", "conv4")}

    maps = compiled(maps, variables)
    before, after = maps(variables), maps(changed)
    half = before["conv2"].shape[-1] // 2
    np.testing.assert_array_equal(before["conv2"][..., :half], after["conv2"][..., :half])
    assert (before["conv2"][..., half:] != after["conv2"][..., half:]).any()
    for layer in ("conv3", "conv4"):
        assert (before[layer] != after[layer]).any((0, 1, 2)).all()


def test_over_a_batch_and_one_by_one_under_vmap(key):
    model = build("cuda_convnet_11pct", width=4)
    variables = random_variables(model, (12, 12, 3))
    images = jax.random.normal(key, (3, 12, 12, 3))

    def both(images):
        alone = jax.vmap(lambda image: model.apply(variables, image[None], train=False)[0])(images)
        return alone, model.apply(variables, images, train=False)

    alone, together = compiled(both, images)(images)
    np.testing.assert_allclose(together, alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: trace(build("alexnet"), (256, 256, 3)), "takes images of 227x227 or 224x224: not 256x256"),
        (lambda: trace(build("alexnet_torchvision"), (32, 32, 3)), "must be at least 63x63"),
        (lambda: trace(build("zfnet"), (227, 227, 3)), "takes images of 224x224: not 227x227"),
        (lambda: trace(build("vgg16"), (32, 32, 3)), "head='cifar': not 32x32 with head='imagenet'"),
        (lambda: trace(build("nin_cifar10"), (5, 5, 3)), "must be at least 6x6"),
        (lambda: trace(build("cuda_convnet_18pct"), (9, 9, 3)), "must be at least 10x10"),
        (lambda: build("vgg12"), "11, 13, 16, 19"),
        (lambda: build("alexnet", width=9), "width=9: must be a multiple of groups=2"),
        (lambda: build("alexnet", lrn_alpha_per="size"), "must be one of sum, mean"),
        (lambda: build("vgg16", kernel_init="he"), "must be one of paper, glorot, torchvision"),
    ],
)  # fmt: skip
def test_bad_sizes_and_fields_say_what_fits(call, message):
    with pytest.raises(UserError, match=re.escape(message)) as error:
        call()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("order", "positive"), [("original", True), ("bn_after_activation", False)])
def test_a_net_around_alexnet_with_batch_norm(key, order, positive):
    """BatchNorm adds a scale and a bias for each filter; where it comes last, features have mean 0."""
    fields = {"width": 4, "norm": "batch", "order": order, "kernel_init": "he_fan_in"}
    model, without = (build("alexnet_cifar", **each) for each in (fields, {"width": 4}))
    assert parameters(model, (32, 32, 3)) == parameters(without, (32, 32, 3)) + 2 * (4 + 4 + 8)
    images = jax.random.normal(key, (2, 16, 16, 3))
    variables = model.init(key, images, train=False)
    _, found = model.apply(
        variables, images, train=True, mutable=["batch_stats", "intermediates"],
        capture_intermediates=lambda module, _: module.name in ("act3", "bn3"),
    )  # fmt: skip
    last = found["intermediates"]["bn3" if order == "bn_after_activation" else "act3"]["__call__"][0]
    assert bool((last >= 0).all()) == positive
    assert (abs(last.mean((0, 1, 2))).max() < 1e-6) != positive
