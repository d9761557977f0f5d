import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax.counting import summary
from cnnjax.errors import UserError
from cnnjax.models import build, list_models
from tests.counting import parameters, random_variables, trace
from tests.gradients import assert_every_parameter_gets_a_gradient, initial


def test_a_plain_net_has_the_variables_of_option_a():
    plain, residual = (trace(build(f"{family}20"), (32, 32, 3)) for family in ("plain", "resnet"))
    assert jax.tree.map(jnp.shape, plain) == jax.tree.map(jnp.shape, residual)


def test_defaults_are_the_papers():
    assert build("resnet29").block == "bottleneck"  # 9n + 2 and not 6n + 2
    assert build("resnet20").shortcut == build("resnet18").shortcut == "A"
    assert build("resnet50").shortcut == build("resnet164").shortcut == "B"
    assert build("resnet50").strides_at == "1x1"
    assert [build(name).num_classes for name in ("plain20", "plain18", "resnet50")] == [10, 1000, 1000]


def test_other_classes_and_widths():
    assert parameters(build("resnet20", num_classes=100)) == 275_572
    # Width 8 by hand: stem, then per stage two convolutions a block, each with its BatchNorm.
    kernels = 27 * 8 + 9 * (6 * 8 * 8 + 8 * 16 + 5 * 16 * 16 + 16 * 32 + 5 * 32 * 32)
    norms = 2 * (8 + 6 * 8 + 6 * 16 + 6 * 32)
    assert parameters(build("plain20", width=8)) == kernels + norms + 32 * 10 + 10


@pytest.mark.parametrize(
    "name",
    [
        *(name for name in list_models("plain*") if len(name) < 8),
        *("resnet18", "resnet34_torchvision", "resnet50", "resnet44", "resnet11"),
        *("preresnet34", "preresnet50", "preresnet44", "preresnet11"),
    ],
)
def test_weighted_layers_are_the_depth_in_the_name(name):
    layers = [row for row in summary(name).layers if row.macs and "shortcut" not in row.name]
    assert len(layers) == int(re.search(r"\d+", name).group())


def test_blocks_are_named_in_depth_order():
    names = [
        name for name in trace(build("resnet8", stage_sizes=(1, 101)), (8, 8, 3))["params"] if "block" in name
    ]
    assert names == ["stage1_block001", *(f"stage2_block{index:03d}" for index in range(1, 102))]
    assert "stage3_block01" in trace(build("resnet8"), (8, 8, 3))["params"]


def silenced(model, image):
    """Variables at first, but residual branches are all zero: the last BatchNorm of each block is off."""

    def value(path, leaf):
        *_, layer, kind = (part.key for part in path)
        if kind in ("scale", "var"):
            return np.ones_like(leaf) * (layer != "bn2")
        return leaf * np.float32(kind == "kernel")

    return jax.tree_util.tree_map_with_path(value, random_variables(model, image))


def test_option_a_passes_every_other_pixel_and_pads_channels_at_the_end(key):
    images = jax.random.normal(key, (2, 12, 12, 3))
    model = build("resnet8", width=4)
    variables = silenced(model, (12, 12, 3))
    params = variables["params"]
    stem = jax.lax.conv_general_dilated(
        images,
        params["conv1"]["kernel"],
        (1, 1),
        [(1, 1), (1, 1)],
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    stem = jax.nn.relu(stem / np.sqrt(1 + 1e-5))  # running mean 0, variance 1
    features = np.pad(stem[:, ::4, ::4].mean((1, 2)), ((0, 0), (0, 12)))
    expected = features @ params["classifier"]["kernel"] + params["classifier"]["bias"]
    np.testing.assert_allclose(model.apply(variables, images, train=False), expected, rtol=1e-5, atol=1e-6)


def test_a_plain_net_passes_nothing_but_the_branch(key):
    images = jax.random.normal(key, (2, 12, 12, 3))
    model = build("plain8", width=4)
    assert not model.apply(silenced(model, (12, 12, 3)), images, train=False).any()


def test_initial_weights_have_the_papers_distribution():
    model = build("resnet14", shortcut="C", width=32, stage_sizes=(1, 2))
    for path, value in initial(model, (8, 8, 3)).items():
        kind = path.split("/")[-1]
        if kind == "kernel":
            *spatial, inputs, outputs = value.shape
            std = np.sqrt(2 / (np.prod(spatial) * outputs if spatial else inputs))
            error = 4 / np.sqrt(2 * value.size)  # four standard errors of a standard deviation
            assert abs(value.std() / std - 1) < error, path
            assert abs(value.mean() / std) < 4 / np.sqrt(value.size), path
        else:
            assert (value == (kind == "scale")).all(), path


@pytest.mark.parametrize(
    ("name", "fields"),
    [pytest.param("plain8", {}, marks=pytest.mark.slow), ("resnet8", {"dtype": jnp.bfloat16}),
     pytest.param("resnet8", {"shortcut": "C"}, marks=pytest.mark.slow),
     pytest.param("resnet50", {"stage_sizes": (1, 2), "dtype": jnp.bfloat16}, marks=pytest.mark.slow)],
)  # fmt: skip
def test_every_parameter_gets_a_gradient(name, fields):
    assert_every_parameter_gets_a_gradient(build(name, width=4, num_classes=10, **fields), (16, 16, 3))


def test_names_sort_with_numbers_as_numbers():
    names = list_models("resnet*")
    assert (
        names.index("resnet18")
        < names.index("resnet20")
        < names.index("resnet110")
        < names.index("resnet1202")
    )
    assert list_models("plain1?") == ["plain18"]
    assert list_models("nothing*") == []


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: build("resnte56"), "did you mean resnet56"),
        (lambda: build("plain21"), "plain20 and plain26"),
        (lambda: build("resnet2"), "nearest: resnet8"),
        (lambda: build("preresnet21"), "is not 6n + 2 or 9n + 2 (nearest: preresnet20 and preresnet26)"),
        (lambda: build("resnet26_torchvision"), "18, 34, 50, 101, 152"),
        (lambda: build("resnet20", shortcut="D"), "none, A, A_pooled, B, "),
        (lambda: build("resnet20", order="last"), "full_preactivation"),
        (lambda: build("resnet20", kernel_init="xavier"), "he, he_fan_in, glorot"),
        (lambda: build("resnet20", survival=0.0), "above 0"),
        (lambda: build("plain20", survival=0.5), "needs a shortcut"),
        (lambda: build("resnet50", base_width=0), "must be at least 64"),
        (lambda: build("resnet20", depth=3), "has no field 'depth'"),
        (lambda: build("resnet20", widht=3), "no field 'widht': did you mean width? its fields are"),
        (lambda: build("resnext50"), "did you mean resnext50_32x4d"),
        (lambda: build("resnet20", width=2.5), "width=2.5: must be a whole number"),
        (lambda: build("resnet20", dtype="int8"), "must be a floating-point type"),
        (lambda: build("resnet20", remat="yes"), "must be True or False"),
        (lambda: build("resnet20", stage_sizes=()), "at least 1"),
        (lambda: build("resnet20", width=0), "at least 1"),
    ],
)
def test_bad_names_and_fields_say_what_to_type(call, message):
    with pytest.raises(UserError, match=re.escape(message)) as error:
        call()
    assert "\n" not in str(error.value)


def test_layer_norm_is_of_each_image_by_itself():
    """z of a layer has mean 0 and variance 1 over height, width and channels, alone and in a batch."""
    model = build("plain8", width=2, stage_sizes=(1,), norm="layer")
    images = jax.random.normal(jax.random.key(0), (3, 6, 6, 3))
    variables = model.init(jax.random.key(1), images, train=False)
    assert set(variables) == {"params"}  # no averages
    _, state = model.apply(variables, images, train=True, capture_intermediates=True)
    normalized = np.asarray(state["intermediates"]["bn1"]["__call__"][0])
    np.testing.assert_allclose(normalized.mean((1, 2, 3)), 0, atol=1e-5)
    np.testing.assert_allclose(normalized.var((1, 2, 3)), 1, rtol=1e-3)
    alone = model.apply(variables, images[:1], train=True)
    np.testing.assert_allclose(alone, model.apply(variables, images, train=True)[:1], rtol=1e-4, atol=1e-5)


def test_layer_norm_has_as_many_parameters_as_batch_norm():
    with_batch, with_layer = (summary("plain20", norm=norm).parameters for norm in ("batch", "layer"))
    assert with_layer == with_batch == 269_722
