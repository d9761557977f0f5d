import jax
import numpy as np
import pytest
from flax.traverse_util import unflatten_dict

from cnnjax.counting import summary
from cnnjax.errors import UserError
from cnnjax.models import build, stack
from cnnjax.models.resnext import FORMS, convert
from tests.counting import random_variables
from tests.gradients import compiled, initial


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("resnext29_1x64d", 4_914_250), ("resnext29_2x64d", 9_130_314), ("resnext29_4x64d", 17_562_442),
        ("resnext29_8x64d", 34_426_698), ("resnext29_16x64d", 68_155_210), ("resnext29_8x16d", 5_646_666),
        ("resnext29_32x4d", 4_775_754), ("resnext50_32x4d", 25_028_904), ("resnext50_2x40d", 25_425_000),
        ("resnext50_4x24d", 25_292_968), ("resnext50_8x14d", 25_603_016), ("resnext101_32x4d", 44_177_704),
        ("resnext101_32x8d", 88_791_336), ("resnext101_64x4d", 83_455_272), ("resnext101_2x64d", 84_198_184),
        ("resnext101_1x100d", 85_611_336),
    ],
)  # fmt: skip
def test_parameters(name, expected):
    assert summary(name).parameters == expected


def test_multiply_adds():
    counted = summary("resnext29_4x32d", num_classes=100)
    assert (counted.parameters, counted.macs) == (6_900_132, 1_071_419_392)
    assert summary("resnext50_32x4d").macs == 4_230_479_872


def test_the_three_forms_are_one_function(key):
    fields = {"width": 16, "stage_sizes": (1, 2), "strides_at": "3x3"}
    image = (8, 8, 3)
    grouped = build("resnext29_3x16d", **fields)
    variables = random_variables(grouped, image)
    images = jax.random.normal(key, (4, *image))

    def run(form):
        model = grouped.clone(form=form)
        converted = convert(variables, form, 3)
        assert jax.tree.map(np.shape, converted) == jax.tree.map(np.shape, random_variables(model, image))
        back = convert(converted, "grouped", 3)
        jax.tree.map(np.testing.assert_array_equal, back, variables)

        def apply(v):
            return model.apply(v, images, train=True, mutable=["batch_stats"])

        logits, new = compiled(apply, converted)(converted)
        return logits, convert(new, "grouped", 3)

    reference = run("grouped")
    for form in ("concatenated", "split"):
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), run(form), reference
        )
    stacked = convert(stack(variables), "split", 3)["params"]["stage2_block02-02"]
    assert stacked["path01"]["conv3"]["kernel"].shape == (1, 1, 1, 8, 128)


@pytest.mark.parametrize("form", FORMS)
def test_initial_kernels_have_the_variance_of_the_grouped_ones(form):
    model = build("resnext29_2x64d", form=form, width=32, stage_sizes=(1,))
    params = unflatten_dict(initial(model, (8, 8, 3)), sep="/")
    kernel = convert({"params": params}, "grouped", 2)["params"]["stage1_block01"]["conv2"]["kernel"]
    error = 4 / np.sqrt(2 * kernel.size)
    assert abs(np.std(kernel) / np.sqrt(2 / (9 * 2 * 32)) - 1) < error


def test_impossible_blocks_say_why():
    with pytest.raises(UserError, match="their product must be at least 64"):
        build("resnext29_8x4d", width=8)
    with pytest.raises(UserError, match="at least 1"):
        build("resnext50_0x4d")
    with pytest.raises(UserError, match="50, 101, 152, 200"):
        build("resnext34_32x4d")
    with pytest.raises(UserError, match="norm='batch'"):
        build("resnext29_2x64d", form="split", norm="none")
