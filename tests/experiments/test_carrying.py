"""What shortcuts carry, in float64, beside closed forms and the same written out."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax.models import build
from experiments.identity_mappings.carrying import carried
from experiments.identity_mappings.variants import DROPOUT, ORDERS, ORIGINAL, SCALINGS, gated

pytestmark = pytest.mark.usefixtures("x64")


def network(variant, depth=8, **fields):
    """A net in float64 with BatchNorms that are not the identity, and a batch."""
    images = jnp.asarray(np.random.default_rng(0).normal(size=(3, 8, 8, 1)))
    model = build(variant.model.format(depth=depth), width=2, dtype=jnp.float64, **variant.options, **fields)
    variables = model.init(jax.random.key(0), images, train=False)
    draw = np.random.default_rng(1).uniform
    filled = jax.tree.map(lambda leaf: leaf + draw(0.1, 0.4, leaf.shape) * (leaf.ndim == 1), variables)
    return model, filled, images, jnp.arange(3)


def measured(variant):
    model, variables, images, labels = network(variant)
    return carried(model, variables, images, labels, jax.random.key(3))


@pytest.mark.parametrize("variant", [*SCALINGS, ORIGINAL], ids=lambda one: one.name)
def test_a_scale_is_carried_once_a_block_both_ways(variant):
    found = measured(variant)
    scale = variant.options.get("shortcut_scale", 1.0)
    np.testing.assert_allclose(found["closed_form"], [scale] * 3)
    np.testing.assert_allclose(found["forward_shortcut"], scale ** np.arange(1.0, 4), rtol=1e-12)
    np.testing.assert_allclose(found["backward_shortcut"], scale ** np.arange(1.0, 4), rtol=1e-12)


def test_what_a_gate_carries_is_the_product_written_out():
    """The network's own path, block by block with numpy, for the gates, the ReLUs and option A."""
    model, variables, images, labels = network(gated("shortcut_only_gating", -1.0))
    found = carried(model, variables, images, labels, jax.random.key(0))
    _, state = model.apply(
        variables, images, train=False, capture_intermediates=True, mutable=["intermediates"]
    )
    outputs = state["intermediates"]
    x = np.maximum(np.asarray(outputs["bn1"]["__call__"][0]), 0)
    alone = through = whole = x
    for number, name in enumerate(f"stage{stage}_block01" for stage in (1, 2, 3)):
        gate = variables["params"][name]["shortcut"]["gate"]
        strides = 1 if number == 0 else 2
        opened = 1 / (1 + np.exp(-(x[:, ::strides, ::strides] @ gate["kernel"][0, 0] + gate["bias"])))
        pad = ((0, 0), (0, 0), (0, 0), (0, opened.shape[-1] - x.shape[-1]))
        fit = lambda part, strides=strides, pad=pad: np.pad(part[:, ::strides, ::strides], pad)  # noqa: E731
        ones = fit(np.ones_like(x))
        x = np.asarray(outputs[name]["__call__"][0])
        alone, whole = (1 - opened) * fit(alone), fit(whole)
        through = (x > 0) * (1 - opened) * fit(through)
        sizes = [np.abs(part).mean() / np.abs(whole).mean() for part in (alone, through)]
        np.testing.assert_allclose(found["forward_shortcut"][number], sizes[0], rtol=1e-9)
        np.testing.assert_allclose(found["forward_block"][number], sizes[1], rtol=1e-9)
        scale = ((1 - opened) * ones).sum() / ones.sum()
        np.testing.assert_allclose(found["closed_form"][number], scale, rtol=1e-9)


def test_forward_and_backward_are_transposes():
    """One gate for all elements makes both ways the same number."""
    model, variables, images, labels = network(gated("exclusive_gating", -2.0))
    params = jax.tree_util.tree_map_with_path(
        lambda path, leaf: leaf * (0 if "gate" in jax.tree_util.keystr(path) else 1), variables["params"]
    )
    found = carried(model, {**variables, "params": params}, images, labels, jax.random.key(0))
    half = 0.5 ** np.arange(1.0, 4)
    np.testing.assert_allclose(found["forward_shortcut"], half, rtol=1e-12)
    np.testing.assert_allclose(found["backward_shortcut"], half, rtol=1e-12)


def test_dropout_lets_half_of_the_elements_pass_each_block():
    found = measured(DROPOUT)
    np.testing.assert_allclose(found["closed_form"], [0.5] * 3)
    elements = np.array([384, 96, 24])  # 3 images of 8x8x2, then a quarter of the places each time
    error = 5 * np.sqrt(0.25 / elements)
    assert (abs(found["scale"] - 0.5) < error).all()


def test_where_nothing_follows_the_addition_all_is_carried_within_a_stage():
    for variant in ORDERS[1:]:
        found = carried(*network(variant, stage_sizes=(2,)), jax.random.key(0))
        np.testing.assert_allclose(found["forward_block"], 1, rtol=1e-12)
        np.testing.assert_allclose(found["backward_block"], 1, rtol=1e-12)


def test_scan_is_unrolled():
    model, variables, images, labels = network(SCALINGS[1], 14)
    scanned = carried(model.clone(loop="scan"), variables, images, labels, jax.random.key(0))
    np.testing.assert_allclose(scanned["forward_shortcut"], 0.5 ** np.arange(1.0, 7), rtol=1e-12)
