import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from cnnjax.config import Config
from cnnjax.layerwise import clip_by_layer, keep_norms, limit_filters
from cnnjax.ops.depth import stack, unstack
from cnnjax.optimizers import make_optimizer


def blocks(scale):
    """Three blocks by name, of kernels and biases; the last two can be stacked."""
    random = np.random.default_rng(0)
    return {
        f"stage1_block0{number}": {
            "conv": {
                "kernel": jnp.array(scale * number * random.normal(size=(3, 3, 2, 2))),
                "bias": jnp.array(random.normal(size=2)),
            }
        }
        for number in (1, 2, 3)
    }


def everything(path, w):
    return True


def test_clipping_is_by_layer():
    """Norms 5 and 0.5 become 1 and 0.5: the direction stays, and the small one is left alone."""
    gradients = {"a": jnp.array([3.0, 4.0]), "b": jnp.array([[0.3], [0.4]]), "c": jnp.zeros(2)}
    clip = clip_by_layer(1.0)
    clipped, _ = clip.update(gradients, clip.init(gradients))
    np.testing.assert_allclose(clipped["a"], [0.6, 0.8], rtol=1e-6)
    np.testing.assert_array_equal(clipped["b"], gradients["b"])
    np.testing.assert_array_equal(clipped["c"], 0.0)


def test_norms_are_kept_and_directions_are_those_of_the_step():
    """(3, 4) with the update (0, -8) goes to (3, -4), already on the sphere; (0, -4) takes it to (5, 0)."""
    params = {"a": jnp.array([3.0, 4.0]), "zero": jnp.zeros(2)}
    keep = keep_norms(everything)
    state = keep.init(params)
    for update, after in (((0.0, -8.0), (3.0, -4.0)), ((0.0, -4.0), (5.0, 0.0)), ((3.0, 4.0), (3.0, 4.0))):
        updates, state = keep.update({"a": jnp.array(update), "zero": jnp.ones(2)}, state, params)
        moved = optax.apply_updates(params, updates)
        np.testing.assert_allclose(moved["a"], after, rtol=1e-6, atol=1e-6)
        np.testing.assert_array_equal(moved["zero"], 1.0)


def test_large_filters_are_scaled_back_and_small_ones_left_alone():
    """After a step of zeros a filter of RMS 1 has .1, and one of .05 keeps its bits, to the last."""
    large, small = jnp.array([1.0, -1.0]), jnp.array([0.05, -0.05])
    kernel = jnp.stack([large, small], -1).reshape(1, 2, 1, 2)
    params = {"conv": {"kernel": kernel, "bias": jnp.ones(2)}, "fc": {"kernel": jnp.ones((2, 2))}}
    limit = limit_filters(0.1, lambda path, w: w.ndim == 4)
    updates, _ = limit.update(jax.tree.map(jnp.zeros_like, params), limit.init(params), params)
    moved = optax.apply_updates(params, updates)
    np.testing.assert_allclose(moved["conv"]["kernel"][..., 0].ravel(), [0.1, -0.1], rtol=1e-6)
    np.testing.assert_array_equal(moved["conv"]["kernel"][..., 1].ravel(), small)
    np.testing.assert_array_equal(moved["conv"]["bias"], 1.0)
    np.testing.assert_array_equal(moved["fc"]["kernel"], 1.0)


@pytest.mark.parametrize(
    "transformation",
    [
        clip_by_layer(0.7),
        keep_norms(everything),
        limit_filters(0.8, lambda path, w: w.ndim >= 4),
    ],
    ids=["clip", "keep", "limit"],
)
def test_layers_stacked_over_depth_count_one_by_one(transformation):
    """The same numbers as by block: one norm over the stack would mix the layers."""
    params, gradients = blocks(1.0), blocks(0.3)
    state = transformation.init(params)
    expected, _ = transformation.update(gradients, state, params)
    found, _ = transformation.update(stack(gradients), stack(state), stack(params))
    for ours, theirs in zip(jax.tree.leaves(unstack(found)), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-6)


def test_a_config_clips_each_layer_and_keeps_the_norms_of_convolutions():
    fields = {"schedule": "constant", "momentum": 0.0, "learning_rate": 1.0, "weight_decay": 0.0}
    params, gradients = blocks(1.0), blocks(2.0)

    def moved(**own):
        optimizer = make_optimizer(Config(**fields, **own))
        updates, _ = optimizer.update(gradients, optimizer.init(params), params)
        return updates, optax.apply_updates(params, updates)

    updates, _ = moved(clip_layer_norm=0.01)
    for update in jax.tree.leaves(updates):
        np.testing.assert_allclose(optax.tree.norm(update), 0.01, rtol=1e-5)
    _, after = moved(fixed_norms=True)
    for name, block in after.items():
        kernel, bias = block["conv"]["kernel"], block["conv"]["bias"]
        before = params[name]["conv"]
        np.testing.assert_allclose(optax.tree.norm(kernel), optax.tree.norm(before["kernel"]), rtol=1e-6)
        np.testing.assert_allclose(bias, before["bias"] - gradients[name]["conv"]["bias"], atol=1e-6)
