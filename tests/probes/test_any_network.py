"""Networks of many kinds: their layers are complete, and the numbers are those of a second path."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn
from jax import lax

from cnnjax.ops import marks
from cnnjax.probes import activation, layer_statistics
from cnnjax.probes.subject import cross_entropy
from tests.probes.zoo import NETS, by_interception

pytestmark = pytest.mark.usefixtures("x64")
LABELS = np.array([0, 1, 2, 3, 4, 0])


def images(seed=0):
    return np.random.default_rng(seed).normal(size=(6, 8, 8, 3))


def names_of(function, params, batch, **options):
    shapes = jax.eval_shape(lambda params: layer_statistics(function, params, batch, **options), params)
    return shapes.layers


@pytest.mark.parametrize("name", NETS)
def test_layers_are_complete_and_in_order(name):
    model, expected = NETS[name]
    variables = jax.eval_shape(lambda: model.init(jax.random.key(0), images()))
    assert names_of(model, variables, (images(), LABELS)) == expected


@pytest.mark.slow
@pytest.mark.parametrize("name", NETS)
def test_numbers_are_those_of_a_second_path(name):
    model, expected = NETS[name]
    batch = images(), LABELS
    variables = jax.jit(model.init)(jax.random.key(0), batch[0])

    @jax.jit
    def both(variables):
        return layer_statistics(model, variables, batch), by_interception(
            model, variables, batch, cross_entropy
        )

    found, (rms, gradient) = both(variables)
    np.testing.assert_allclose(found.rms, [rms[name] for name in expected], rtol=1e-9)
    np.testing.assert_allclose(
        found.activation_gradient_norm, [gradient[name] for name in expected], rtol=1e-9
    )


def gru(params, x, steps):
    """A GRU (Cho et al. 2014) over rows of pixels, by `steps(step, state, inputs)`."""

    def step(h, x):
        from_x, from_h = x @ params["input"], h @ params["hidden"]
        (r, z), (rx, zx) = (jnp.split(part[:, : 2 * h.shape[1]], 2, 1) for part in (from_h, from_x))
        r, z = jax.nn.sigmoid(r + rx), jax.nn.sigmoid(z + zx)
        n = jnp.tanh(from_x[:, 2 * h.shape[1] :] + r * from_h[:, 2 * h.shape[1] :])
        return (1 - z) * n + z * h

    rows = x.reshape(len(x), 8, 24).swapaxes(0, 1)
    return steps(step, x[:, 0, :4, 0], rows) @ params["head"]


def by_scan(step, h, rows):
    return lax.scan(lambda h, row: (step(h, row), None), h, rows)[0]


def by_python(step, h, rows):
    for row in rows:
        h = step(h, row)
    return h


def test_recurrent_networks_have_a_call_for_each_step():
    draw = np.random.default_rng(1).normal
    params = {"head": draw(size=(4, 5)), "hidden": draw(size=(4, 12)), "input": 0.2 * draw(size=(24, 12))}
    batch = images(), LABELS

    @jax.jit
    def both(params):
        return [
            layer_statistics(lambda params, x, how=how: gru(params, x, how), params, batch)
            for how in (by_scan, by_python)
        ]

    scanned, unrolled = both(params)
    assert scanned.layers == (*(f"{name}[{t}]" for t in range(8) for name in ("input", "hidden")), "head")
    assert scanned.layers == unrolled.layers
    for name, value in scanned.arrays().items():
        if isinstance(value, jax.Array):
            np.testing.assert_allclose(value, unrolled.arrays()[name], rtol=1e-8, err_msg=name)


def matrix(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape) / np.sqrt(shape[0])


FEATURES = matrix(6, 7)
ONE_LAYER = {
    "shared": (lambda p, x: jnp.tanh(x @ p["w"]) @ p["w"], {"w": matrix(7, 7)}, ("w[0]", "w[1]")),
    "LoRA": (
        lambda p, x: x @ (p["dense"]["kernel"] + p["dense"]["a"] @ p["dense"]["b"]),
        {"dense": {"a": matrix(7, 2), "b": matrix(2, 5), "kernel": matrix(7, 5)}},
        ("dense",),
    ),
    "LoRA in its own layers": (
        lambda p, x: x @ p["dense"]["kernel"] + x @ p["dense"]["a"] @ p["dense"]["b"],
        {"dense": {"a": matrix(7, 2), "b": matrix(2, 5), "kernel": matrix(7, 5)}},
        ("dense/kernel", "dense/a", "dense/b"),
    ),
    "weight normalisation": (
        lambda p, x: x @ (p["dense"]["g"] * p["dense"]["v"] / jnp.linalg.norm(p["dense"]["v"], axis=0)),
        {"dense": {"g": np.ones(5), "v": matrix(7, 5)}},
        ("dense",),
    ),
    "einsum": (
        lambda p, x: jnp.einsum("bi,hio->bho", x, p["heads"]).sum(1),
        {"heads": matrix(3, 7, 5)},
        ("heads",),
    ),
    "bfloat16": (
        lambda p, x: (x.astype(jnp.bfloat16) @ p["w"].astype(jnp.bfloat16)).astype(float),
        {"w": matrix(7, 5)},
        ("w",),
    ),
    "hypernetwork": (  # its second product has no parameter: the kernel is made of the input
        lambda p, x: jnp.einsum("bi,bio->bo", x, (x @ p["w"]).reshape(-1, 7, 5)),
        {"w": matrix(7, 35)},
        ("w",),
    ),
    "a marked kernel": (
        lambda p, x: marks.layer(jnp.sum(x[:, :, None] * p["w"], 1), p["w"]),
        {"w": matrix(7, 5)},
        ("w",),
    ),
    "one mark for two products": (
        lambda p, x: marks.layer(x[:, :3] @ p["w"][:3] + x[:, 3:] @ p["w"][3:], p["w"]),
        {"w": matrix(7, 5)},
        ("w",),
    ),
}


@pytest.mark.parametrize("kind", ONE_LAYER)
def test_kernels_of_every_kind(kind):
    function, params, expected = ONE_LAYER[kind]
    assert names_of(function, params, (FEATURES, LABELS)) == expected


CONVOLUTIONS = {
    "1-D": (nn.Conv(4, (3,)), (8, 3)),
    "2-D, grouped": (nn.Conv(4, (3, 3), feature_group_count=2), (8, 8, 4)),
    "3-D": (nn.Conv(4, (3, 3, 3)), (4, 4, 4, 2)),
    "transposed": (nn.ConvTranspose(4, (2, 2), (2, 2)), (4, 4, 3)),
    "unshared": (nn.ConvLocal(4, (3, 3)), (5, 5, 3)),
}


@pytest.mark.parametrize("kind", CONVOLUTIONS)
def test_convolutions_of_every_kind(kind):
    layer, shape = CONVOLUTIONS[kind]
    x = np.zeros((6, *shape))

    def net(params, x):
        z = layer.apply(params["conv"], x)
        return z.reshape(len(z), -1, z.shape[-1]).mean(1) @ params["head"]

    params = {
        "conv": jax.eval_shape(lambda: layer.init(jax.random.key(0), x)),
        "head": jax.ShapeDtypeStruct((4, 5), float),
    }
    assert names_of(net, params, (x, LABELS)) == ("conv/params", "head")


def test_embeddings_and_a_loss_of_tokens():
    """A look-up is a layer; the loss is the mean over all tokens."""
    draw = np.random.default_rng(3)
    tokens, params = draw.integers(0, 11, (6, 4)), {"embed": draw.normal(size=(11, 7)), "out": matrix(7, 11)}

    def net(params, tokens):
        return params["embed"][tokens] @ params["out"]

    found = jax.jit(lambda p: layer_statistics(net, p, (tokens, tokens), loss=cross_entropy))(params)
    assert found.layers == ("embed", "out")
    rms = [np.sqrt(np.mean(z**2)) for z in (params["embed"][tokens], net(params, tokens))]
    np.testing.assert_allclose(found.rms, rms, rtol=1e-12)
    odds = jax.nn.softmax(net(params, tokens))
    back = (odds - np.eye(11)[tokens]) / tokens.size
    norms = [jnp.linalg.norm(g.ravel()) for g in (back @ params["out"].T, back)]
    np.testing.assert_allclose(found.activation_gradient_norm, norms, rtol=1e-9)


def test_regression():
    params, targets = {"a": matrix(7, 4), "b": matrix(4, 1)}, matrix(6, 1, seed=5)

    @jax.jit
    def measure(params):
        return layer_statistics(
            lambda p, x: jnp.tanh(x @ p["a"]) @ p["b"],
            params,
            (FEATURES, targets),
            loss=lambda outputs, targets: optax.squared_error(outputs, targets).sum(1),
        )

    found = measure(params)
    z = np.tanh(FEATURES @ params["a"]) @ params["b"]
    np.testing.assert_allclose(
        found.activation_gradient_norm[1], np.linalg.norm(2 * (z - targets) / 6), rtol=1e-9
    )


@pytest.mark.parametrize("name", activation.KNOWN)
def test_activations_are_found_by_what_they_compute(name):
    """Written as the library has it, or by hand."""
    act = activation.KNOWN[name]

    def net(p, x):
        return act(x @ p["a"] + p["bias"]) @ p["b"]

    params = {"a": matrix(7, 4), "b": matrix(4, 5), "bias": np.zeros(4)}
    batch = FEATURES, LABELS
    shapes = jax.eval_shape(lambda params: layer_statistics(net, params, batch), params)
    assert shapes.activations == (name, "identity")


def last_of_scan(p, x):
    return lax.scan(lambda x, w: (jnp.tanh(x @ w), None), x, p["stack"])[0] @ p["b"]


WHERE_IT_IS_LAST = {
    "remat": (lambda p, x: jax.checkpoint(lambda x: jnp.tanh(x @ p["a"]))(x) @ p["b"], ("tanh", "identity")),
    "scan": (last_of_scan, ("tanh", "tanh", "identity")),
    "cond": (
        lambda p, x: lax.cond(x.sum() > 0, lambda x: jnp.tanh(x @ p["a"]), lambda x: x, x) @ p["b"],
        ("tanh", "identity"),
    ),
    "the network": (lambda p, x: jax.nn.sigmoid(x @ p["b"]), ("sigmoid",)),
    "a product by a number": (lambda p, x: (x @ p["a"] / 3) @ p["b"], ("identity", "identity")),
}


@pytest.mark.parametrize("where", WHERE_IT_IS_LAST)
def test_activations_that_come_last_in_a_function(where):
    net, expected = WHERE_IT_IS_LAST[where]
    params = {"a": matrix(7, 7), "b": matrix(7, 5), "stack": np.stack([matrix(7, 7)] * 2)}
    shapes = jax.eval_shape(lambda params: layer_statistics(net, params, (FEATURES, LABELS)), params)
    assert shapes.activations == expected


def test_activations_that_are_not_known():
    def net(p, x):
        a, gate = x @ p["a"], x @ p["gate"]
        x = jax.nn.silu(a) * gate
        x = jnp.maximum(x @ p["b"], 0) + p["slope"] * jnp.minimum(x @ p["b"], 0)
        return x @ p["c"]

    params = {"a": matrix(7, 4), "gate": matrix(7, 4), "b": matrix(4, 5), "c": matrix(5, 5)}
    params["slope"] = np.ones(5)
    shapes = jax.eval_shape(lambda params: layer_statistics(net, params, (FEATURES, LABELS)), params)
    assert shapes.activations == ("silu", "identity", "relu", "other", "identity")
