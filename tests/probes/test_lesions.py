"""Lesions of tiny networks, in float64, beside the same networks written without the block."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from jax import lax

import cnnjax
from cnnjax.errors import UserError
from cnnjax.probes import equal_blocks, find_blocks, lesion, lesioned_outputs, reorder
from tests.probes.zoo import ViT

pytestmark = pytest.mark.usefixtures("x64")
draw = np.random.default_rng(0).normal


def loss(outputs, labels):
    """Continuous, so that it holds on any processor."""
    return jnp.square(outputs).sum(-1)


def error(model, variables, batch, **options):
    """In one program, as a user would."""
    return jax.jit(lambda variables: lesion(model, variables, batch, losses=loss, **options))(variables)


def residual(params, x, kept=(True, True, True)):
    x = x @ params["stem"]
    for number, keep in enumerate(kept):
        if keep:
            x = x + jnp.tanh(x @ params[f"block{number}"]["a"]) @ params[f"block{number}"]["b"]
    return x @ params["head"]


PARAMS = {
    "stem": draw(size=(5, 4)),
    **{f"block{n}": {"a": draw(size=(4, 6)), "b": draw(size=(6, 4))} for n in range(3)},
    "head": draw(size=(4, 3)),
}
BATCH = draw(size=(7, 5)), np.arange(7) % 3


def test_deletions_are_those_of_the_network_without_the_block():
    found = error(residual, PARAMS, BATCH, samples_at_once=3)
    kept = [(True, True, True), (False, True, True), (True, False, True), (True, True, False)]
    expected = [loss(residual(PARAMS, BATCH[0], each), None).mean() for each in kept]
    assert found.blocks == ("block0", "block1", "block2")
    np.testing.assert_allclose(found.error, expected, rtol=1e-12)


def test_outputs_are_those_of_the_network_without_the_blocks():
    opened = np.array([[1, 1, 1], [0, 1, 0]])
    found = jax.jit(lambda variables: lesioned_outputs(residual, variables, BATCH[0], opened))(PARAMS)
    expected = [residual(PARAMS, BATCH[0], kept) for kept in ((True, True, True), (False, True, False))]
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    with pytest.raises(UserError, match="of 3 blocks"):
        lesioned_outputs(residual, PARAMS, BATCH[0], opened[:, :2])


def test_all_at_once_is_one_by_one():
    opened = np.array([[1, 0, 1], [0, 0, 1], [0.5, 1, 1], [1, 1, 1], [0, 0, 0]])
    together = error(residual, PARAMS, BATCH, opened=opened, at_once=4).error
    alone = [error(residual, PARAMS, BATCH, opened=row[None], at_once=1).error[0] for row in opened]
    np.testing.assert_allclose(together, alone, rtol=1e-12)


def scanned(params, x):
    blocks = jax.tree.map(lambda *leaves: jnp.stack(leaves), *(params[f"block{n}"] for n in range(3)))
    return (
        lax.scan(lambda x, each: (x + jnp.tanh(x @ each["a"]) @ each["b"], None), x @ params["stem"], blocks)[
            0
        ]
        @ params["head"]
    )


@pytest.mark.parametrize("function", [jax.jit(residual), jax.checkpoint(residual), scanned])
def test_transformations_change_nothing(function):
    expected = error(residual, PARAMS, BATCH).error
    np.testing.assert_allclose(error(function, PARAMS, BATCH).error, expected, rtol=1e-12)


def test_a_block_in_another_place():
    orders = np.array([[0, 1, 2], [1, 0, 2], [2, 0, 1]])
    found = jax.jit(lambda p: reorder(residual, p, BATCH, orders, losses=loss))(PARAMS)
    names = [f"block{n}" for n in range(3)]
    for order, value in zip(orders, found.error, strict=True):
        moved = {**PARAMS, **{name: PARAMS[names[n]] for name, n in zip(names, order, strict=True)}}
        assert float(value) == pytest.approx(float(loss(residual(moved, BATCH[0]), None).mean()), rel=1e-12)


def plain(params, x, replaced=None):
    """A chain of layers; of one the input replaces the response, fitted to its shape."""
    for number, (kernel, bias) in enumerate(params["layers"]):
        response = x @ kernel + bias
        if number == replaced:
            response = x[:, ::2] if kernel.shape[1] < kernel.shape[0] else jnp.pad(x, ((0, 0), (0, 1)))
        x = jax.nn.relu(response)
    return x @ params["head"]


def test_in_a_chain_of_layers_each_one_is_a_block():
    shapes = [(5, 6), (6, 3)]
    params = {"layers": [(draw(size=s), draw(size=s[1])) for s in shapes], "head": draw(size=(3, 2))}
    found = error(plain, params, BATCH)
    assert len(found.blocks) == 2
    expected = [loss(plain(params, BATCH[0], which), None).mean() for which in (None, 0, 1)]
    np.testing.assert_allclose(found.error, expected, rtol=1e-12)


def network(name, **options):
    images = jnp.asarray(draw(size=(4, 6, 6, 1)))
    model = cnnjax.build(name, dtype=jnp.float64, **options)
    return model, model.init(jax.random.key(0), images, train=False), (images, jnp.zeros(4, int))


def without(module, shortcut=lambda x: x):
    """A network's loss with a block of it replaced, on a second path: Flax's own interception."""

    def intercept(call, args, kwargs, context):
        is_it = context.method_name == "__call__" and context.module.name == module
        return shortcut(*args) if is_it else call(*args, **kwargs)

    return nn.intercept_methods(intercept)


def test_a_plain_net_passes_on_the_blocks_input():
    model, variables, (images, labels) = network("plain14", width=4)
    found = error(model, variables, (images, labels))
    assert found.blocks[2] == "stage2_block01"
    pad = lambda x: jnp.pad(x[:, ::2, ::2], ((0, 0), (0, 0), (0, 0), (0, 4)))  # noqa: E731
    for number, shortcut in ((1, lambda x: x), (2, pad)):
        with without(found.blocks[number], shortcut):
            expected = loss(model.apply(variables, images, train=False), labels).mean()
        assert float(found.error[1 + number]) == pytest.approx(float(expected), rel=1e-9)


def test_a_highway_network_carries():
    model, variables, (images, labels) = network("highway10", width=4)
    found = error(model, variables, (images, labels))
    assert found.blocks == tuple(f"stage1_block{n:02}" for n in range(2, 11))
    with without("stage1_block05"):
        expected = loss(model.apply(variables, images, train=False), labels).mean()
    assert float(found.error[4]) == pytest.approx(float(expected), rel=1e-9)


def test_attention_and_mlps_are_blocks():
    model, images = ViT(), jnp.asarray(draw(size=(3, 8, 8, 1)))
    variables = model.init(jax.random.key(0), images)
    found = error(model, variables, (images, jnp.zeros(3, int)))
    assert found.blocks[::2] == ("attention0", "attention1")
    for number, layer in ((0, "attention0"), (3, "mlp1_out")):
        with without(layer, lambda x: jnp.zeros((*x.shape[:2], 8))):
            expected = loss(model.apply(variables, images), None).mean()
        assert float(found.error[1 + number]) == pytest.approx(float(expected), rel=1e-9)


def test_averages_are_estimated_anew():
    """Those of the very images that are tested make the network what it is in training."""
    model, variables, (images, labels) = network("resnet8", width=4)
    opened = np.array([[1, 0, 1]])
    found = error(model, variables, (images, labels), opened=opened, calibration=images)
    branch = variables["params"]["stage2_block01"]["bn2"]
    branch.update(jax.tree.map(jnp.zeros_like, branch))
    outputs, _ = model.apply(variables, images, train=True, mutable=["batch_stats"])
    assert float(found.error[0]) == pytest.approx(float(loss(outputs, labels).mean()), rel=1e-9)


def normalized(params, state, x, is_training):
    """A residual block with a normalisation whose averages are what it carries."""
    x = x @ params["first"]
    z = x @ params["inner"]
    mean, var = (z.mean(0), z.var(0)) if is_training else (state["mean"], state["var"])
    decayed = {"mean": 0.7 * state["mean"] + 0.3 * mean, "var": 0.7 * state["var"] + 0.3 * var}
    x = x + jnp.tanh((z - mean) / jnp.sqrt(var + 1e-5)) @ params["second"]
    return x, decayed if is_training else state


def test_averages_of_other_libraries():
    params = {name: jnp.asarray(draw(size=(4, 4))) for name in ("first", "inner", "second")}
    state = {"mean": jnp.zeros(4), "var": jnp.ones(4)}
    inputs = jnp.asarray(draw(size=(8, 4)))
    model = (lambda key: (params, state), normalized)
    found = error(model, (params, state), (inputs, jnp.zeros(8)), calibration=inputs, opened=np.ones((1, 1)))
    expected = loss(normalized(params, state, inputs, True)[0], None).mean()
    assert float(found.error[0]) == pytest.approx(float(expected), rel=1e-9)


def test_equal_blocks():
    _, variables, _ = network("resnet20", width=4)
    names = [f"stage{s}_block0{b}" for s in (1, 2, 3) for b in (1, 2, 3)]
    assert equal_blocks(variables, names) == [[0, 1, 2], [4, 5], [7, 8]]
    assert equal_blocks(variables, ["elsewhere", *names[:2]]) == [[1, 2]]


def test_mistakes_are_one_line():
    linear = lambda params, x: x @ params  # noqa: E731
    with pytest.raises(UserError, match="no blocks"):
        find_blocks(linear, draw(size=(5, 3)), BATCH[0])
    with pytest.raises(UserError, match="of 3 blocks"):
        lesion(residual, PARAMS, BATCH, np.ones((2, 4)))
    with pytest.raises(UserError, match="must give one number or more for each sample"):
        lesion(residual, PARAMS, BATCH, losses=lambda outputs, labels: jnp.zeros(()))
