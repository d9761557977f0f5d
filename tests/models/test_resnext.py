import jax
import numpy as np
import pytest
from flax.traverse_util import unflatten_dict

from cnnjax.errors import UserError
from cnnjax.models import build, stack
from cnnjax.models.resnext import FORMS, convert
from tests.counting import random_variables
from tests.gradients import compiled, initial


def test_any_depth_9n_plus_2_builds_for_cifar():
    assert build("resnext38_4x16d").stage_sizes == (4, 4, 4)
    assert build("resnext38_4x16d").clone(stage_sizes=(3, 3, 3)) == build("resnext29_4x16d")
    assert build("resnext101_32x4d").stem == "imagenet"


@pytest.mark.parametrize(
    ("form", "fields"),
    [
        ("split", {}),
        ("concatenated", {"order": "full_preactivation", "strides_at": "1x1"}),
    ],
)
def test_the_forms_are_one_function(key, form, fields):
    image = (8, 8, 3)
    grouped = build("resnext29_2x16d", width=16, stage_sizes=(1, 2), **fields)
    variables = random_variables(grouped, image)
    images = jax.random.normal(key, (4, *image))

    def run(form):
        converted = convert(grouped, variables, form)

        def apply(v):
            return grouped.clone(form=form).apply(v, images, train=True, mutable=["batch_stats"])

        logits, new = compiled(apply, converted)(converted)
        return logits, convert(grouped, new, "grouped")

    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), run(form), run("grouped")
    )


@pytest.mark.parametrize("order", ["original", "relu_only_preactivation", "full_preactivation"])
def test_variables_go_from_form_to_form(order):
    fields = {"width": 16, "stage_sizes": (1, 2), "order": order, "activation": "prelu"}
    models = [build("resnext29_2x64d", form=form, **fields) for form in FORMS]  # here all widths are equal
    all_variables = [random_variables(model, (8, 8, 3)) for model in models]
    for one, variables in zip(models, all_variables, strict=True):
        for other, expected in zip(models, all_variables, strict=True):
            converted = convert(one, variables, other.form)
            assert jax.tree.map(np.shape, converted) == jax.tree.map(np.shape, expected)
            jax.tree.map(np.testing.assert_array_equal, convert(one, converted, one.form), variables)
    stacked = convert(models[0], stack(all_variables[0]), "split")["params"]["stage2_block02-02"]
    assert stacked["path01"]["conv3"]["kernel"].shape == (1, 1, 1, 32, 128)


@pytest.mark.parametrize("form", FORMS)
def test_initial_kernels_have_the_variance_of_the_grouped_ones(form):
    model = build("resnext29_2x64d", form=form, width=32, stage_sizes=(1,), kernel_init="he_fan_in")
    params = unflatten_dict(initial(model, (8, 8, 3)), sep="/")
    block = convert(model, {"params": params}, "grouped")["params"]["stage1_block01"]
    for layer, inputs in {"conv1": 32, "conv2": 9 * 32, "conv3": 64}.items():
        kernel = block[layer]["kernel"]
        assert abs(np.std(kernel) / np.sqrt(2 / inputs) - 1) < 4 / np.sqrt(2 * kernel.size), layer


def test_impossible_blocks_say_why():
    with pytest.raises(UserError, match="their product must be at least 64"):
        build("resnext29_8x4d", width=8)
    with pytest.raises(UserError, match="at least 1"):
        build("resnext50_0x4d")
    with pytest.raises(UserError, match=r"50, 101, 152, 200 or, for CIFAR, 9n \+ 2"):
        build("resnext34_32x4d")
    with pytest.raises(UserError, match="norm='batch'"):
        build("resnext29_2x64d", form="split", norm="none")
