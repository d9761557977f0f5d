import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree

from cnnjax.errors import UserError
from cnnjax.models import build
from cnnjax.network import as_network
from cnnjax.probes import curvature, forward, layer_statistics, samples, theory
from cnnjax.probes.jacobian import singular_values
from cnnjax.probes.subject import cross_entropy
from tests.nets import TwoConvolutions

pytestmark = pytest.mark.usefixtures("x64")
LABELS = np.array([0, 1, 2, 0])
IMAGES = np.random.default_rng(1).normal(size=(4, 6, 6, 3))
NET = TwoConvolutions(dtype=jnp.float64)


def losses_of(model, train, variables, images, labels):
    logits, _ = model.apply(variables, images, train=train, mutable=["batch_stats"])
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels)


@pytest.fixture(scope="module")
def case():
    return NET, jax.jit(lambda: NET.init(jax.random.key(0), IMAGES, train=False))()


@pytest.fixture(scope="module")
def brute(case):
    """The losses in training mode, and their Jacobians [sample, ...] by parameters and images."""
    model, variables = case

    def losses(params, images):
        values = losses_of(model, True, {**variables, "params": params}, images, LABELS)
        return values, values

    jacobian = jax.jit(jax.jacrev(losses, (0, 1), has_aux=True))
    (by_weights, by_images), values = jacobian(variables["params"], IMAGES)
    return values, by_weights, by_images


@pytest.fixture(scope="module")
def alone(case):
    """Gradients of the third sample in evaluation mode, the batch's statistics as running averages."""
    model, variables = case
    train = jax.jit(lambda v: model.clone(momentum=0.0).apply(v, IMAGES, train=True, mutable=["batch_stats"]))
    _, new = train(variables)
    m = IMAGES[..., 0].size
    unbiased = (m - 1) / m  # running variances are

    def biased(path, leaf):
        return leaf * unbiased if path[-1].key == "var" else leaf

    state = jax.tree_util.tree_map_with_path(biased, new)

    def loss(params, image):
        return losses_of(model, False, {**state, "params": params}, image[None], LABELS[2:3])[0]

    return jax.jit(jax.grad(loss, (0, 1)))(variables["params"], IMAGES[2])


def assert_close(found, expected):
    found, expected = (np.asarray(ravel_pytree(tree)[0]) for tree in (found, expected))
    np.testing.assert_allclose(found, expected, rtol=1e-8, atol=1e-9 * np.abs(expected).max())


def test_input_gradients_against_the_jacobian(case, brute, alone):
    model, variables = case
    _, _, jacobian = brute

    @jax.jit
    def measure(variables):
        modes = ("frozen", "batch", "full")
        return {mode: samples.input_gradients(model, variables, (IMAGES, LABELS), mode) for mode in modes}

    found = measure(variables)
    own = np.stack([jacobian[i, i] for i in range(4)])
    assert_close(found["batch"], own)
    assert_close(found["full"], jacobian.sum(0))
    assert_close(found["frozen"][2], alone[1])
    assert np.abs(found["frozen"] - own).max() > 1e-2 * np.abs(own).max()


@pytest.fixture(scope="module")
def weight_gradients(case):
    model, variables = case

    @jax.jit
    def measure(variables):
        batch = (IMAGES, LABELS)
        one_by_one = samples.weight_gradients(model, variables, batch)
        return one_by_one, samples.weight_gradients(model, variables, batch, "batch", at_once=2)

    return measure(variables)


def test_weight_gradients_against_brute_force(brute, alone, weight_gradients):
    frozen, batch = weight_gradients
    _, jacobian, _ = brute
    assert_close(batch, jacobian)
    assert_close(jax.tree.map(lambda leaf: leaf[2], frozen), alone[0])


def test_measures_of_every_layer(case, weight_gradients):
    model, variables = case
    found = jax.jit(lambda v: samples.sample_statistics(model, v, (IMAGES, LABELS), at_once=4))(variables)
    assert found.layers == ("conv1", "conv2", "classifier", samples.ALL)
    frozen, _ = weight_gradients
    first = np.asarray(frozen["conv1"]["kernel"]).reshape(4, -1)
    everything = np.concatenate([np.asarray(leaf).reshape(4, -1) for leaf in jax.tree.leaves(frozen)], 1)
    for index, g in ((0, first), (-1, everything)):
        products = g @ g.T
        off = ~np.eye(4, dtype=bool)
        units = g / np.linalg.norm(g, axis=1, keepdims=True)
        normal = theory.gaussian_effective_rank(*g.shape)
        values = {
            "mean_cosine": (units @ units.T)[off].mean(),
            "effective_rank": (g**2).sum() / np.linalg.norm(g, 2) ** 2 / normal,
            "normalised_rank": 4 / np.linalg.norm(units, 2) ** 2 / normal,
            "alignment": 4 * (g.mean(0) ** 2).sum() / (g**2).sum(1).mean(),
            "confusion": products[off].min(),
            # The covariance's trace over the mean of <g, g'> over pairs, both unbiased.
            "noise_scale": np.cov(g.T).trace() / products[off].mean(),
        }
        for name, value in values.items():
            assert float(getattr(found, name)[index]) == pytest.approx(value, rel=1e-9), (name, index)
    np.testing.assert_allclose(found.cosines[-1], units @ units.T, atol=1e-9)


def test_known_noise():
    """Signal of length 2, noise of variance 9 in each of 50 directions: 9 * 50 / 4; without signal, white."""
    noise = 3 * np.random.default_rng(0).normal(size=(400, 50)).astype(np.float32)
    measure = jax.jit(lambda g: samples.measure(samples.gram(g), theory.gaussian_effective_rank(*g.shape)))
    assert measure(noise + 2 * np.eye(50, dtype=np.float32)[0]).noise_scale == pytest.approx(112.5, rel=0.15)
    white = measure(noise)
    assert white.effective_rank == pytest.approx(1, rel=0.05)
    assert white.normalised_rank == pytest.approx(1, rel=0.05)
    assert white.mean_cosine == pytest.approx(0, abs=1e-3)
    assert white.alignment == pytest.approx(1, abs=0.5)
    noise[0] *= 1e3  # a long one hides the others
    uneven = measure(noise)
    assert uneven.effective_rank == pytest.approx(1 / theory.gaussian_effective_rank(400, 50), rel=0.01)
    assert uneven.normalised_rank == pytest.approx(1, rel=0.05)
    equal = measure(np.ones((400, 50), np.float32))
    np.testing.assert_allclose([equal.mean_cosine, equal.alignment, equal.confusion], [1, 400, 50], rtol=1e-5)


def test_statistics_are_named(case, brute):
    model, variables = case
    values, *_ = brute

    @jax.jit
    def logits(variables):
        modes = {
            mode: forward.function_of(as_network(model), variables, IMAGES, mode)
            for mode in ("batch", "frozen", "running")
        }
        found = {mode: function(variables["params"], IMAGES) for mode, function in modes.items()}
        return found, model.apply(variables, IMAGES, train=False)

    found, evaluated = logits(variables)
    assert_close(samples.cross_entropy(found["batch"], LABELS), values)
    assert_close(samples.cross_entropy(found["frozen"], LABELS), values)
    assert_close(found["running"], evaluated)
    with pytest.raises(UserError, match="must be batch, frozen or running"):
        forward.function_of(as_network(model), variables, IMAGES, "full")
    with pytest.raises(UserError, match="must be frozen, batch or full"):
        samples.input_gradients(model, variables, (IMAGES, LABELS), "running")
    with pytest.raises(UserError, match="must be frozen or batch"):
        samples.weight_gradients(model, variables, (IMAGES, LABELS), "full")


def test_a_network_with_groups_is_measured_in_evaluation_alone():
    """Its training takes statistics of parts of a batch, which none of the others are."""
    images = np.random.default_rng(2).normal(size=(4, 6, 6, 3))
    batch = images, jnp.array([0, 1, 2, 0])
    model = build("resnet8", width=2, stage_sizes=(1,), bn_group_size=2)
    variables = jax.jit(lambda: model.init(jax.random.key(0), images, train=False))()
    of_loss = {
        mode: lambda v, mode=mode: curvature.batch_loss(model, v, batch, mode)(v["params"])
        for mode in ("running", "batch", "frozen")
    }
    running = of_loss.pop("running")

    @jax.jit
    def losses(variables):
        logits = model.apply(variables, images, train=False)
        return running(variables), samples.cross_entropy(logits, batch[1]).mean()

    assert_close(*losses(variables))
    measures = [
        *of_loss.values(),
        lambda v: samples.input_gradients(model, v, batch, "full"),
        lambda v: samples.sample_statistics(model, v, batch),
        lambda v: singular_values(model, v, images),
    ]
    for measure in measures:
        with pytest.raises(
            UserError, match=r"bn_group_size=2: .* with statistics='running' alone; build it with"
        ):
            jax.eval_shape(measure, variables)


def test_single_samples_of_a_network_that_is_not_linens():
    """One sample of a batch has an axis of size 1, which must not be taken for another."""
    draw = np.random.default_rng(0).normal
    params = {"a": draw(size=(12, 5)), "b": draw(size=(5, 3))}
    batch = draw(size=(4, 2, 3, 2)), np.arange(4) % 3

    def net(params, x):
        return jnp.tanh(x.reshape(len(x), -1) @ params["a"]) @ params["b"]

    def loss(params, i):
        logits = net(params, batch[0][i : i + 1])
        return optax.softmax_cross_entropy_with_integer_labels(logits, batch[1][i : i + 1])[0]

    found = samples.weight_gradients(net, params, batch)
    for i in range(4):
        expected = jax.grad(loss)(params, i)
        jax.tree.map(
            lambda a, b, i=i: np.testing.assert_allclose(a[i], b, rtol=1e-9, atol=1e-12), found, expected
        )


def contrast(outputs, labels):
    """Of each sample with all others, as in contrastive learning."""
    z = outputs / jnp.linalg.norm(outputs, axis=1, keepdims=True)
    alike = (labels[:, None] == labels) & ~jnp.eye(len(z), dtype=bool)
    return -jnp.sum(alike * jax.nn.log_softmax(z @ z.T), 1)


LOSSES = {
    "of tokens": (optax.softmax_cross_entropy_with_integer_labels, (6, 4)),
    "of numbers": (lambda outputs, labels: optax.squared_error(outputs[..., 0], labels * 1.0), (6, 4)),
    "of pairs of samples": (contrast, (6,)),
}


@pytest.mark.parametrize("kind", LOSSES)
def test_losses_of_every_kind(kind):
    """The gradient of one sample's loss, with the others beside it; their mean is that of training."""
    loss, shape = LOSSES[kind]
    draw = np.random.default_rng(0)
    params = {"a": draw.normal(size=(3, 5)), "b": draw.normal(size=(5, 4))}
    inputs, labels = draw.normal(size=(*shape, 3)), draw.integers(0, 3, shape)

    def model(params, x):
        return jnp.tanh(x @ params["a"]) @ params["b"]

    @jax.jit
    def both(params):
        found = samples.weight_gradients(model, params, (inputs, labels), losses=loss)
        total = jax.grad(lambda params: loss(model(params, inputs), labels).mean())(params)
        one = jax.grad(lambda params: loss(model(params, inputs), labels)[2].mean())(params)
        return found, total, one

    found, total, one = both(params)
    for name, value in found.items():
        np.testing.assert_allclose(value.mean(0), total[name], rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(value[2], one[name], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (
            lambda outputs, labels: jnp.mean(outputs),
            r"must give one number or more for each sample.*shape \(\)",
        ),
        (cross_entropy, r"fails on outputs and labels of shape \(\d, 7, 2\) and \(\d,\)"),
    ],
)
def test_a_loss_that_does_not_fit_is_one_line(loss, message):
    params, x = {"w": np.ones((3, 2))}, np.ones((6, 7, 3))
    for measure in (samples.weight_gradients, samples.sample_statistics, layer_statistics):
        with pytest.raises(UserError, match=message) as told:
            measure(lambda p, x: x @ p["w"], params, (x, np.zeros(6, int)), **{keyword(measure): loss})
        assert "\n" not in str(told.value)


def keyword(measure):
    return "loss" if measure is layer_statistics else "losses"
