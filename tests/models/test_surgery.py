import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax.errors import UserError
from cnnjax.models import build, fold, grow, inserted_blocks, stack

WIDTH = 4


def trained(depth, dtype, **fields):
    """A plain net, and variables and images such that neither BatchNorm nor biases are as they began."""
    model = build(f"plain{depth}", width=WIDTH, dtype=dtype, **fields)
    images = jax.random.normal(jax.random.key(0), (8, 8, 8, 3), dtype)
    variables = model.init(jax.random.key(1), images, train=False)
    random = np.random.default_rng(0)

    def disturbed(path, leaf):
        if path[-1].key == "kernel":
            return leaf
        factor = random.uniform(0.5, 1.5, leaf.shape)
        return jnp.asarray(factor * leaf if path[-1].key in ("scale", "var") else factor - 1, dtype)

    return model, jax.tree_util.tree_map_with_path(disturbed, variables), images


def logits(model, variables, images, train=False):
    @jax.jit
    def outputs(variables, images):
        return model.apply(variables, images, train=train, mutable=["batch_stats"])[0]

    return outputs(variables, images)


@pytest.mark.parametrize("place", ["end", "between"])
@pytest.mark.parametrize("norm", ["batch", "none"])
@pytest.mark.parametrize(("shallow", "deep"), [(8, 14), (14, 32), (14, 14)])
def test_the_grown_net_computes_the_same(shallow, deep, norm, place):
    with jax.enable_x64(True):
        model, variables, images = trained(shallow, "float64", norm=norm)
        grown = build(f"plain{deep}", width=WIDTH, dtype="float64", norm=norm)
        new = grow(variables, model, grown, place=place)
        own = jax.eval_shape(lambda: grown.init(jax.random.key(0), images, train=False))
        assert jax.tree.map(jnp.shape, new) == jax.tree.map(jnp.shape, own)
        before = logits(model, variables, images)
        assert np.abs(before).max() > 0.1
        np.testing.assert_allclose(logits(grown, new, images), before, rtol=0, atol=1e-12)


def test_calibrated_it_does_in_training_too():
    with jax.enable_x64(True):
        model, variables, images = trained(8, "float64")
        grown = build("plain20", width=WIDTH, dtype="float64")
        before = logits(model, variables, images, train=True)
        calibrated = grow(variables, model, grown, images)
        np.testing.assert_allclose(logits(grown, calibrated, images, train=True), before, rtol=0, atol=1e-12)
        assert np.abs(logits(grown, grow(variables, model, grown), images, train=True) - before).max() > 0.1
        in_evaluation = logits(model, variables, images)
        np.testing.assert_allclose(logits(grown, calibrated, images), in_evaluation, rtol=0, atol=1e-12)


def test_in_float32():
    model, variables, images = trained(8, "float32")
    grown = build("plain20", width=WIDTH)
    new = grow(stack(variables), model, grown)
    np.testing.assert_allclose(
        logits(grown, new, images), logits(model, variables, images), rtol=0, atol=1e-5
    )


def test_where_blocks_are_inserted():
    nets = build("plain14"), build("plain26")
    assert inserted_blocks(*nets) == [f"stage{s}_block0{b}" for s in (1, 2, 3) for b in (3, 4)]
    between = inserted_blocks(*nets, place="between")
    assert between == [f"stage{s}_block0{b}" for s in (1, 2, 3) for b in (2, 4)]
    assert inserted_blocks(nets[0], nets[0]) == []
    assert inserted_blocks(build("plain8"), build("plain602"))[0] == "stage1_block002"


@pytest.mark.parametrize("shortcut", ["none", "A"])
def test_folded_it_does_without_batchnorm(shortcut):
    with jax.enable_x64(True):
        model, variables, images = trained(14, "float64", shortcut=shortcut)
        new = fold(variables, model)
        before = logits(model, variables, images)
        without = model.clone(norm="none")
        np.testing.assert_allclose(logits(without, new, images), before, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("shallow", "deep", "fields", "message"),
    [
        ("plain20", "plain14", {}, r"stages of \(3, 3, 3\) blocks can't become stages of \(2, 2, 2\)"),
        ("resnet8", "resnet14", {}, "needs plain nets of basic blocks, such as plain20, not ResNet"),
        ("plain8", "lenet5", {}, "not LeNet5"),
        ("plain8", "plain14", {"width": 8}, "width is 16 in the shallow net and 8 in the deep one"),
        ("plain8", "plain14", {"norm": "none"}, "norm is 'batch' in the shallow net and 'none' in the deep"),
        ("plain8", "plain14", {"activation": "tanh"}, "a layer is the identity where ReLU has come before"),
    ],
)
def test_no_such_pair(shallow, deep, fields, message):
    with pytest.raises(UserError, match=message):
        grow({}, build(shallow), build(deep, **fields))


def test_refusals():
    plain = build("plain8", norm="none")
    with pytest.raises(UserError, match="no BatchNorm to calibrate"):
        grow({}, plain, plain, jnp.zeros((1, 8, 8, 3)))
    with pytest.raises(UserError, match="place='middle': must be one of end, between"):
        grow({}, plain, plain, place="middle")  # pyright: ignore[reportArgumentType]
    with pytest.raises(UserError, match="fold: needs a plain or residual net with BatchNorm"):
        fold({}, plain)
    with pytest.raises(UserError, match="shortcut='B': fold needs 'none' or 'A'"):
        fold({}, build("resnet8", shortcut="B"))
