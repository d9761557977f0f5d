from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax.traverse_util import flatten_dict, unflatten_dict

from cnnjax.counting import summary
from cnnjax.models import build
from cnnjax.models.orders import ORDERS
from cnnjax.models.resnet import BasicBlock
from cnnjax.models.shortcuts import SHORTCUTS
from cnnjax.ops.activations import ACTIVATIONS
from cnnjax.ops.norm import BatchNorm
from tests.counting import parameters, trace
from tests.gradients import assert_every_parameter_gets_a_gradient


def test_strides_are_where_resnets_have_them():
    assert summary("preresnet11").macs == summary("resnet11").macs


# Figure 4 of He et al. 2016, for a block of two convolutions: c is a convolution, b a BatchNorm, r a ReLU.
FIGURE_4 = {
    "original": "c1 b1 r c2 b2 + r",
    "bn_after_addition": "c1 b1 r c2 + b2 r",
    "relu_before_addition": "c1 b1 r c2 b2 r +",
    "bn_after_activation": "c1 r b1 c2 + r b2",  # ours
    "relu_only_preactivation": "r c1 b1 r c2 b2 +",
    "full_preactivation": "b1 r c1 b2 r c2 +",
}


def randomised(variables, key):
    """`variables` with other random numbers, positive, so that no BatchNorm is the identity."""
    leaves = flatten_dict(variables)
    keys = jax.random.split(key, len(leaves))
    return unflatten_dict(
        {path: jax.random.uniform(k, leaf.shape, minval=0.2) - 0.5 * (path[-1] in ("kernel", "bias", "mean"))
         for k, (path, leaf) in zip(keys, leaves.items(), strict=True)}
    )  # fmt: skip


@pytest.mark.parametrize("order", ORDERS)
def test_a_block_has_the_order_of_figure_4(key, order):
    norm = partial(BatchNorm, use_running_average=True)
    block = BasicBlock(
        filters=4,
        strides=1,
        conv=partial(nn.Conv, use_bias=False),
        shortcut=partial(SHORTCUTS["A"], conv=None, norm=None, train=False),
        order=partial(ORDERS[order], norm, ACTIVATIONS["relu"]),
    )
    x = jax.random.normal(key, (2, 5, 5, 4))
    variables = randomised(block.init(key, x), key)
    params, stats = variables["params"], variables["batch_stats"]

    y = x
    for step in FIGURE_4[order].split():
        if step[0] == "c":
            kernel = params[f"conv{step[1]}"]["kernel"]
            y = jax.lax.conv(y.transpose(0, 3, 1, 2), kernel.transpose(3, 2, 0, 1), (1, 1), "SAME")
            y = y.transpose(0, 2, 3, 1)
        elif step[0] == "b":
            name = f"bn{step[1]}"
            y = (y - stats[name]["mean"]) / np.sqrt(stats[name]["var"] + 1e-5)
            y = y * params[name]["scale"] + params[name]["bias"]
        elif step == "r":
            y = jnp.maximum(y, 0)
        else:
            y = x + y
    np.testing.assert_allclose(block.apply(variables, x), y, rtol=1e-4, atol=1e-5)


def test_the_stem_activates_for_both_paths_and_projections_take_what_the_branch_takes(key):
    """With silent branches the identity path is left: BN in the stem, where the shape changes, and last."""
    images = jax.random.normal(key, (2, 12, 12, 3))
    model = build("preresnet8", width=4, bn_epsilon=3.0)  # each BatchNorm halves
    variables = model.init(key, images, train=False)
    params = flatten_dict(variables["params"])
    assert "bn1" not in variables["params"]["stage1_block01"]
    silent = {path: jnp.zeros_like(leaf) if path[-2] == "conv2" else leaf for path, leaf in params.items()}
    kernel = params["conv1", "kernel"]
    stem = jax.lax.conv(images.transpose(0, 3, 1, 2), kernel.transpose(3, 2, 0, 1), (1, 1), "SAME")
    features = np.maximum(stem, 0)[:, :, ::4, ::4].mean((2, 3)) / 2**4
    expected = np.pad(features, ((0, 0), (0, 12))) @ params["classifier", "kernel"]
    found = model.apply({**variables, "params": unflatten_dict(silent)}, images, train=False)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


def join(key, name, x, branch, train=False, **fields):
    shortcut = SHORTCUTS[name](conv=partial(nn.Conv, use_bias=False), norm=None, train=train, **fields)
    variables = shortcut.init({"params": key, "dropout": key}, x, branch)
    return shortcut.apply(variables, x, branch, rngs={"dropout": key}), variables.get("params")


def test_shortcuts_of_table_1(key):
    x, branch = jax.random.normal(key, (2, 3, 6, 6, 4))
    y, _ = join(key, "constant_scaling", x, branch, shortcut_scale=0.25, branch_scale=0.75)
    np.testing.assert_allclose(y, 0.25 * x + 0.75 * branch, rtol=1e-6)
    for name, on_branch in {"exclusive_gating": True, "shortcut_only_gating": False}.items():
        y, params = join(key, name, x, branch, gate_bias=-1.5)
        assert (params["gate"]["bias"] == -1.5).all()
        gate = 1 / (1 + np.exp(1.5 - x @ params["gate"]["kernel"][0, 0]))
        np.testing.assert_allclose(
            y, (1 - gate) * x + (gate if on_branch else 1) * branch, rtol=1e-4, atol=1e-5
        )
    y, _ = join(key, "dropout", x, branch)
    np.testing.assert_allclose(y, x + branch, rtol=1e-6)
    y, _ = join(key, "dropout", x, branch, train=True)
    dropped = np.isclose(y, branch)
    np.testing.assert_allclose(y, branch + np.where(dropped, 0, 2 * x), rtol=1e-5, atol=1e-6)
    assert abs(dropped.mean() - 0.5) < 4 * np.sqrt(0.25 / x.size)


@pytest.mark.parametrize("name", SHORTCUTS)
def test_every_shortcut_fits_where_the_shape_changes(key, name):
    fields = {"order": "full_preactivation", "width": 2, "stage_sizes": (1, 2)}
    for depth in (8, 11):
        model = build(f"preresnet{depth}", shortcut=name, **fields)
        assert "classifier" in trace(model, (7, 7, 3))["params"]


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        pytest.param("preresnet8", {"remat": True}, marks=pytest.mark.slow),
        ("preresnet11", {"shortcut": "C", "norm": "none", "activation": "prelu", "kernel_init": "glorot"}),
        (
            "resnet8",
            {"shortcut": "exclusive_gating", "order": "relu_only_preactivation", "activation": "tanh"},
        ),
    ],
)
def test_every_parameter_gets_a_gradient(name, fields):
    model = build(name, width=4, stage_sizes=(1, 2), **fields)
    assert_every_parameter_gets_a_gradient(model, (8, 8, 3))


def test_without_batchnorm_convolutions_have_biases():
    plain = build("plain8", norm="none", width=4, kernel_init="dirac", kernel_gain=2.0)
    shapes = trace(plain, (8, 8, 3))
    assert set(shapes) == {"params"}
    assert set(shapes["params"]["stage2_block01"]["conv1"]) == {"kernel", "bias"}
    channels = 4 + 2 * (4 + 8 + 16)
    assert parameters(plain) == parameters(build("plain8", width=4)) - 2 * channels + channels
