from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

import cnnjax
from cnnjax.errors import UserError
from cnnjax.models import build
from cnnjax.models.fractalnet import Block, DropPath, join, pool
from cnnjax.probes import find_blocks, lesion
from tests.counting import parameters, random_variables
from tests.gradients import compiled

pytestmark = pytest.mark.usefixtures("x64")
IMAGE = (8, 8, 3)


@pytest.mark.parametrize(
    ("depth", "count", "macs"),
    [
        (5, 3_918_858, 67_834_880),
        (10, 13_329_738, 296_096_768),
        (20, 33_734_922, 845_222_912),
        (40, 76_128_714, 2_036_077_568),
    ],
)
def test_counts(depth, count, macs):
    counted = cnnjax.summary(f"fractalnet{depth}")
    assert (counted.parameters, counted.macs) == (count, macs)
    page = (Path(__file__).parents[2] / "docs/experiments/fractalnet.md").read_text()
    assert f"| `fractalnet{depth}` | {count:,} | {macs:,} |" in page


@pytest.mark.parametrize(
    ("depth", "count"), [(5, 258_660), (10, 848_820), (20, 2_127_780), (40, 4_784_340), (80, 10_196_100)]
)
def test_counts_of_the_papers_narrow_nets(depth, count):
    """It prints 0.3, 0.8, 2.1, 4.8 and 10.2 M, for CIFAR-100."""
    model = build(f"fractalnet{depth}", width=16, num_classes=100)
    assert parameters(model) == count
    filters = [16, 32, 64, 128, 128]
    columns = model.columns
    first = sum(9 * c_in * c_out for c_in, c_out in zip([3, *filters], filters, strict=False))
    others = sum(9 * c * c for c in filters)
    layers = 2**columns - 1
    assert count == columns * first + (layers - columns) * others + layers * 3 * sum(filters) + 12_900


class Power(nn.Module):
    """In the place of a layer: x -> weight * x * x + weight, with its own weight."""

    @nn.compact
    def __call__(self, x):
        weight = self.param("weight", nn.initializers.ones, ())
        return weight * x * x + weight


def test_a_block_is_the_composition():
    """Of C = 2 and 3, written out; the last join is of pooled columns."""
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 4, 6, 1)))

    def f(weight, x):
        return weight * x * x + weight

    w = dict(zip("abcdefg", np.random.default_rng(1).normal(size=7), strict=True))
    two = {"column1_layer01": w["a"], "column2_layer01": w["b"], "column2_layer02": w["c"]}
    expected = (pool(f(w["a"], x)) + pool(f(w["c"], f(w["b"], x)))) / 2
    variables = {"params": {name: {"weight": value} for name, value in two.items()}}
    np.testing.assert_allclose(Block(2, Power).apply(variables, x), expected, rtol=1e-12)

    halfway = (f(w["b"], x) + f(w["d"], f(w["c"], x))) / 2
    columns = [f(w["a"], x), f(w["e"], halfway), f(w["g"], f(w["f"], halfway))]
    expected = sum(map(pool, columns)) / 3
    names = [f"column{c}_layer{n:02d}" for c, n in [(1, 1), (2, 1), (3, 1), (3, 2), (2, 2), (3, 3), (3, 4)]]
    variables = {"params": {name: {"weight": value} for name, value in zip(names, w.values(), strict=True)}}
    np.testing.assert_allclose(Block(3, Power).apply(variables, x), expected, rtol=1e-12)


def test_pooling_takes_maxima_rounds_up_and_stops_at_a_pixel():
    x = jnp.arange(15.0).reshape(1, 3, 5, 1)
    np.testing.assert_array_equal(pool(x)[0, ..., 0], [[6, 8, 9], [11, 13, 14]])
    np.testing.assert_array_equal(pool(x[:, :1, :1]), x[:, :1, :1])


def wide(variables):
    return jax.tree.map(np.float64, variables)


def plain(params, stats, x):
    """The logits of column 2 alone, by numpy, at test time."""
    for block in range(1, 6):
        names = sorted(name for name in params[f"block{block}"] if name.startswith("column2"))
        for name in names:
            layer, averages = params[f"block{block}"][name], stats[f"block{block}"][name]["bn"]
            padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
            height, width = x.shape[1:3]
            x = layer["conv"]["bias"] + sum(
                padded[:, i : i + height, j : j + width] @ layer["conv"]["kernel"][i, j]
                for i in range(3)
                for j in range(3)
            )
            x = (x - averages["mean"]) / np.sqrt(averages["var"] + 1e-5)
            x = np.maximum(x * layer["bn"]["scale"] + layer["bn"]["bias"], 0)
        if x.shape[1] > 1:
            shape = (len(x), x.shape[1] // 2, 2, x.shape[2] // 2, 2, x.shape[3])
            x = x.reshape(shape).max((2, 4))
    return x[:, 0, 0] @ params["classifier"]["kernel"] + params["classifier"]["bias"]


def test_a_column_is_a_plain_net_with_the_same_weights():
    model = build("fractalnet10", width=2, num_classes=3, column=2, dtype=jnp.float64)
    x = np.random.default_rng(0).normal(size=(2, *IMAGE))
    variables = wide(random_variables(model.clone(column=None), IMAGE))
    logits = jax.jit(lambda v, x: model.apply(v, x, train=False))(variables, x)
    np.testing.assert_allclose(logits, plain(variables["params"], variables["batch_stats"], x), rtol=1e-9)
    shallow = build("fractalnet20", column=1)
    assert parameters(shallow) == parameters(build("fractalnet5"))
    assert parameters(build("fractalnet20", column=3)) == 20_410_314


KEYS = jax.random.split(jax.random.key(0), 4000)
RATE = 0.4


def draws(inputs, columns):
    """What a join's inputs are in each of many batches, and what was drawn for the net."""

    def draw(key):
        drop = DropPath.draw(key, RATE, columns)
        return drop.alive(3, inputs), drop.alive(4, inputs), drop.is_global, drop.column

    return map(np.asarray, jax.jit(jax.vmap(draw))(KEYS))


def within(observed, probability, of):
    """Within four standard errors."""
    return abs(observed - probability) < 4 * np.sqrt(probability * (1 - probability) / of)


@pytest.mark.parametrize("inputs", [2, 3])
def test_local_drops(inputs):
    alive, another, is_global, _ = draws(inputs, columns=4)
    assert within(is_global.mean(), 0.5, len(KEYS))
    alive, another = alive[~is_global], another[~is_global]
    assert alive.any(1).all()
    none = RATE**inputs  # then one at random is kept
    for column in range(inputs):
        assert within(alive[:, column].mean(), 1 - RATE + none / inputs, len(alive))
    assert within(alive.all(1).mean(), (1 - RATE) ** inputs, len(alive))
    assert within((alive == another).all(1).mean(), agreement(inputs), len(alive))


def agreement(inputs):
    """Probability that two joins keep the same, if they draw apart."""
    kept = [bin(subset).count("1") for subset in range(1, 2**inputs)]
    chances = [(1 - RATE) ** k * RATE ** (inputs - k) + (k == 1) * RATE**inputs / inputs for k in kept]
    return sum(chance**2 for chance in chances)


def test_a_global_drop_keeps_one_column():
    alive, another, is_global, column = draws(2, columns=4)
    for each in range(4):
        assert within((column[is_global] == each).mean(), 0.25, is_global.sum())
    np.testing.assert_array_equal(alive[is_global], another[is_global])
    for each, kept in {2: [1, 0], 3: [0, 1], 0: [1, 1]}.items():  # the join's inputs are columns 2 and 3
        assert (alive[is_global & (column == each)] == kept).all()


def test_the_mean_of_those_alive():
    values = [jnp.full((1, 2), value) for value in (1.0, 4.0, 7.0)]
    assert join(values)[0, 0] == join(values, jnp.array([True, True, True]))[0, 0] == 4
    assert join(values, jnp.array([False, True, True]))[0, 0] == 5.5
    values[0] = values[0] * jnp.inf
    assert join(values, jnp.array([False, False, True]))[0, 0] == 7
    assert join([value.astype(jnp.bfloat16) for value in values]).dtype == jnp.bfloat16


@pytest.mark.slow
def test_half_of_the_batches_train_a_column_alone():
    """Their logits and gradients are those of the column; the other columns get none."""
    model = build("fractalnet10", width=1, num_classes=2, dropout=(0,) * 5, dtype="float64")
    variables = wide(random_variables(model, IMAGE))
    images = jax.random.normal(jax.random.key(0), (4, *IMAGE))

    def loss(params, key, model=model):
        mutable, rngs = ["batch_stats"], {} if key is None else {"dropout": key}
        logits, _ = model.apply({**variables, "params": params}, images, True, mutable=mutable, rngs=rngs)
        return jnp.square(logits).sum(), logits

    gradient = jax.vmap(jax.grad(loss, has_aux=True), (None, 0))
    keys = jax.random.split(jax.random.key(1), 60)
    gradients, logits = compiled(gradient, variables["params"], keys)(variables["params"], keys)
    moved = {
        column: np.any(
            [
                np.abs(value.reshape(len(keys), -1)).max(1) > 0
                for path, value in jax.tree.leaves_with_path(gradients)
                if any(f"column{column}" in str(part) for part in path)
            ],
            axis=0,
        )
        for column in (1, 2)
    }
    for column, other in ((1, 2), (2, 1)):
        alone = moved[column] & ~moved[other]
        assert 5 <= alone.sum() <= 27  # 15 +- 3.4, and few local ones
        expected = loss(variables["params"], None, model.clone(column=column))[1]
        np.testing.assert_allclose(logits[alone], np.broadcast_to(expected, logits[alone].shape), rtol=1e-9)
    assert (moved[1] & moved[2]).sum() > 15


def test_only_training_needs_a_key():
    model = build("fractalnet10", width=1, num_classes=2, dtype="bfloat16")
    variables, images = random_variables(model, IMAGE), jax.random.normal(jax.random.key(0), (2, *IMAGE))
    assert model.apply(variables, images, train=False).dtype == jnp.float32
    with pytest.raises(Exception, match="dropout"):
        model.apply(variables, images, train=True, mutable=["batch_stats"])


def test_probes_take_the_deeper_input_of_a_join_for_a_branch():
    model = build("fractalnet20", width=1, num_classes=2)
    variables, images = random_variables(model, IMAGE), jnp.zeros((2, *IMAGE))
    blocks = find_blocks(model, variables, images)
    assert len(blocks) == 5 * 3  # a join of two and one of three inputs in each block
    narrow = build("fractalnet10", width=1, num_classes=2)
    variables = random_variables(narrow, IMAGE)
    found = jax.jit(lambda v: lesion(narrow, v, (images, jnp.array([0, 1]))))(variables)
    assert found.error.shape == (6,)
    assert found.blocks == tuple(f"block{n}" for n in range(1, 6))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: build("fractalnet30"), r"not 5 \* 2\^n \(nearest: fractalnet20 and fractalnet40\)"),
        (lambda: build("fractalnet3"), "nearest: fractalnet5"),
        (lambda: build("fractalnet20", column=4), "from 1 to 3, or None"),
        (lambda: build("fractalnet20", dropout=(0.1,)), "must be 5 rates"),
        (lambda: build("fractalnet20", drop_path=1.0), "drop_path=1.0: must be in"),
    ],
)
def test_bad_fields_say_what_to_type(call, message):
    with pytest.raises(UserError, match=message):
        call()


@pytest.mark.slow
def test_diagnose_takes_it(key):
    model = build("fractalnet10", width=2)
    images = jax.random.normal(key, (8, 14, 14, 3), jnp.float32)
    variables = jax.jit(lambda key: model.init(key, images, train=False))(key)
    health = cnnjax.diagnose(model, variables, (images, jnp.arange(8)))
    assert "block5/column2_layer02/conv" in str(health)
