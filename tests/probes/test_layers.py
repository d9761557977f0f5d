import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

from cnnjax.models import build, stack
from cnnjax.ops.norm import BatchNorm
from cnnjax.ops.precision import types
from cnnjax.probes import layer_statistics
from cnnjax.probes.layers import _activity
from cnnjax.probes.response import Output
from cnnjax.probes.taps import norm_of
from tests.counting import random_variables

pytestmark = pytest.mark.usefixtures("x64")


class Net(nn.Module):
    """Called in an order that is not that of the names: 'b' before 'a'."""

    group_size: int | None = None

    @nn.compact
    def __call__(self, x, train):
        float64 = types(jnp.float64)
        norm = BatchNorm(
            use_running_average=not train, group_size=self.group_size, dtype=jnp.float64, name="bn"
        )
        x = nn.Conv(4, (3, 3), padding=1, use_bias=False, **float64, name="b")(x)
        x = nn.relu(norm(x))
        x = nn.Dense(5, **float64, name="a")(x.mean((1, 2)))
        return x


@pytest.fixture(scope="module")
def batch():
    return np.random.default_rng(1).normal(size=(6, 8, 8, 3)), jnp.array([0, 1, 2, 3, 4, 0])


def test_by_brute_force(batch):
    images, labels = batch
    variables = random_variables(Net(), (8, 8, 3))
    scale, bias = jnp.array([1.0, 2.0, 0.5, -1.0]), jnp.array([0.5, 0.0, -0.5, 1.0])
    variables["params"]["bn"] = {"scale": scale, "bias": bias}
    found = jax.jit(lambda v: layer_statistics(Net(), v, batch))(variables)
    assert found.layers == ("b", "a")

    kernel = variables["params"]["b"]["kernel"]

    def forward(z_noise, params):
        z = jax.lax.conv_general_dilated(images, params["b"]["kernel"], (1, 1), [(1, 1)] * 2,
                                         dimension_numbers=("NHWC", "HWIO", "NHWC")) + z_noise  # fmt: skip
        y = (z - z.mean((0, 1, 2))) / jnp.sqrt(z.var((0, 1, 2)) + 1e-5) * scale + bias
        logits = jax.nn.relu(y).mean((1, 2)) @ params["a"]["kernel"] + params["a"]["bias"]
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean(), (z, y, logits)

    no_noise = jnp.zeros((*images.shape[:3], 4))
    gradient = jax.jit(jax.grad(forward, (0, 1), has_aux=True))
    (dz, dw), (z, y, logits) = gradient(no_noise, variables["params"])

    z, y, logits, scale = map(np.asarray, (z, y, logits, scale))

    def norm(x):
        return np.linalg.norm(np.ravel(x))

    close = {"rtol": 1e-9}
    np.testing.assert_allclose(
        found.weight_norm, [norm(kernel), norm(variables["params"]["a"]["kernel"])], **close
    )
    np.testing.assert_allclose(
        found.weight_gradient_norm, [norm(dw["b"]["kernel"]), norm(dw["a"]["kernel"])], **close
    )
    odds = np.exp(logits)
    d_logits = (odds / odds.sum(1, keepdims=True) - np.eye(5)[np.asarray(labels)]) / 6
    np.testing.assert_allclose(found.activation_gradient_norm, [norm(dz), norm(d_logits)], **close)
    np.testing.assert_allclose(found.rms, np.sqrt([np.mean(z**2), np.mean(logits**2)]), **close)
    np.testing.assert_allclose(found.response_std, [np.std(y), np.std(logits)], **close)
    np.testing.assert_allclose(found.scale, [np.sqrt(np.mean(scale**2)), np.nan], **close)
    active = np.asarray(y > 0).reshape(6, -1)
    both = [np.mean(active[i] & active[j]) for i in range(6) for j in range(6) if i != j]
    assert found.activation[0] == pytest.approx(active.mean())
    assert found.co_activation[0] == pytest.approx(np.mean(both))
    assert found.dead_fraction[1] == pytest.approx(np.mean((np.asarray(logits) <= 0).all(0)))
    assert np.isnan(found.update_norm).all()
    assert np.isnan(found.gradient_cosine).all()


def test_responses_normalised_in_groups(batch):
    """The same as without groups but for the statistics, which no probe sees: it sums over the response."""
    images, _ = batch
    variables = random_variables(Net(), (8, 8, 3))
    variables["params"]["bn"] = {"scale": jnp.array([1.0, 2.0, 0.5, -1.0]), "bias": jnp.arange(4.0)}
    found = jax.jit(lambda v: layer_statistics(Net(group_size=3), v, batch))(variables)
    z = nn.Conv(4, (3, 3), padding=1, use_bias=False, dtype=jnp.float64).apply(
        {"params": variables["params"]["b"]}, images
    )
    norm = {name: tree["bn"] for name, tree in variables.items()}
    y, _ = BatchNorm(use_running_average=False, group_size=3, dtype=jnp.float64).apply(
        norm, z, mutable=["batch_stats"]
    )
    np.testing.assert_allclose(found.response_std[0], np.std(y), rtol=1e-9)


def test_over_seeds_at_once(batch):
    each = [random_variables(Net(), (8, 8, 3), seed) for seed in range(2)]
    variables = jax.tree.map(lambda *leaves: np.stack(leaves), *each)

    def measure(variables):
        return layer_statistics(Net(), variables, batch)

    both, alone = jax.jit(lambda v: (jax.vmap(measure)(v), jax.lax.map(measure, v)))(variables)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9), both, alone)


@pytest.mark.parametrize("size", [1e-30, 1.0, 1e30])
def test_norms_neither_vanish_nor_overflow(size):
    assert norm_of(size * jnp.array([3.0, 4.0])) == pytest.approx(5 * size, rel=1e-6)


def test_dead_channels_are_counted(batch):
    variables = random_variables(Net(), (8, 8, 3))
    variables["params"]["bn"]["bias"] = jnp.array([-100.0, 0, 0, -100.0])
    assert jax.jit(lambda v: layer_statistics(Net(), v, batch))(variables).dead_fraction[0] == 0.5


def activity(y):
    y = jnp.asarray(y)
    return _activity(Output(y, y, (y.ndim - 1,), 0, len(y)))


def test_activity_is_counted_over_batch_and_places():
    """Channels that are never positive, once, twice in the same place, twice in two, and always."""
    y = -np.ones((2, 1, 2, 5))
    y[0, 0, 0, 1] = y[:, 0, 0, 2] = y[0, 0, 0, 3] = y[1, 0, 1, 3] = y[..., 4] = 1
    found = activity(y)
    assert found == pytest.approx({"activation": 9 / 20, "co_activation": 3 / 10, "dead_fraction": 1 / 5})
    assert activity(np.zeros((3, 4)))["dead_fraction"] == 1  # 0 is not positive
    many = activity(np.ones((300, 1)))  # more than a byte counts
    assert (many["activation"], many["co_activation"]) == (1, 1)


@pytest.fixture(scope="module")
def residual(batch):
    model = build("resnet8", width=2, stage_sizes=(1, 3), loop="unrolled", dtype="float64")
    variables = jax.jit(lambda: model.init(jax.random.key(0), batch[0], train=False))()
    return model, variables, jax.jit(lambda v: layer_statistics(model, v, batch))(variables)


def test_call_order_and_shortcuts(residual):
    *_, found = residual
    assert found.layers == (
        "conv1", "stage1_block01/conv1", "stage1_block01/conv2", "stage2_block01/conv1",
        "stage2_block01/conv2", "stage2_block02/conv1", "stage2_block02/conv2", "stage2_block03/conv1",
        "stage2_block03/conv2", "classifier",
    )  # fmt: skip
    assert found.blocks == ("stage1_block01", "stage2_block01", "stage2_block02", "stage2_block03")
    np.testing.assert_allclose(found.response_std[:-1], 1, rtol=0.02)  # gamma is 1, so BatchNorm's output is
    np.testing.assert_allclose(found.branch_rms, 1, rtol=1e-3)
    assert (np.diff(found.stream_rms[1:]) > 0).all()


@pytest.mark.parametrize("shortcut", ["A", "B", "C"])
def test_every_block_is_seen_once(batch, shortcut):
    model = build("resnet14", width=2, shortcut=shortcut)
    variables = jax.eval_shape(lambda: model.init(jax.random.key(0), batch[0], train=False))
    found = jax.eval_shape(lambda v: layer_statistics(model, v, batch), variables)
    assert found.blocks == tuple(f"stage{s}_block{b:02d}" for s in (1, 2, 3) for b in (1, 2))


@pytest.mark.parametrize(
    ("fields", "join"),
    [
        ({"shortcut": "constant_scaling", "branch_scale": 0.25}, lambda x, y: (0.5 * x, 0.25 * y)),
        ({"shortcut": "exclusive_gating", "gate_bias": -1e9}, lambda x, y: (x, 0 * y)),
        pytest.param({"survival": 1e-9}, lambda x, y: (x, 0 * y), marks=pytest.mark.slow),
    ],
)
def test_branch_and_stream_are_what_is_added(batch, fields, join):
    model = build("resnet8", width=2, stage_sizes=(1,), dtype="float64", **fields)
    watched = {"capture_intermediates": True, "mutable": ["intermediates", "batch_stats"]}

    @jax.jit
    def run(key):
        variables = model.init(key, batch[0], train=False)
        _, seen = model.apply(variables, batch[0], train=True, rngs={"dropout": key}, **watched)
        return seen["intermediates"], layer_statistics(model, variables, batch)

    seen, found = run(jax.random.key(0))
    stream = jax.nn.relu(seen["bn1"]["__call__"][0])
    added = join(stream, seen["stage1_block01"]["bn2"]["__call__"][0])
    for measured, value in zip((found.stream_rms, found.branch_rms), added, strict=True):
        np.testing.assert_allclose(measured[0], jnp.sqrt(jnp.mean(value**2)), rtol=1e-9)


@pytest.mark.parametrize("layout", [pytest.param("by block", marks=pytest.mark.slow), "stacked"])
def test_scanned_nets_give_the_same(residual, batch, layout):
    model, variables, expected = residual
    variables = stack(variables) if layout == "stacked" else variables
    found = jax.jit(lambda v: layer_statistics(model.clone(loop="scan", remat=True), v, batch))(variables)
    assert found.layers == expected.layers
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9), found, expected)


def test_a_plain_nets_stream_is_nothing(batch):
    model = build("plain8", width=2)
    variables = jax.eval_shape(lambda: model.init(jax.random.key(0), batch[0], train=False))
    found = jax.eval_shape(lambda v: layer_statistics(model, v, batch), variables)
    assert found.blocks == ("stage1_block01", "stage2_block01", "stage3_block01")
    assert found.weight_norm.shape == (8,)
