import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

import cnnjax
from cnnjax.errors import UserError
from cnnjax.ops.depth import stack, unstack
from cnnjax.probes import (
    box_sharpness,
    curvature,
    filter_axes,
    grid,
    loss_surface,
    principal_plane,
    random_direction,
    random_walk_explained,
)
from cnnjax.probes.trace import by_path

pytestmark = pytest.mark.usefixtures("x64")
draw = np.random.default_rng(0).normal


def linear(params, x):
    return x @ params["kernel"] + params["bias"]


def squared(outputs, labels):
    return ((outputs - labels) ** 2).sum(-1) / 2


@pytest.fixture(scope="module")
def quadratic(x64):
    """Parameters, a batch, and the Hessian by the kernel, output by output: X^T X / samples."""
    params = {"kernel": jnp.asarray(draw(size=(5, 2))), "bias": jnp.zeros(2)}
    batch = jnp.asarray(draw(size=(30, 5))), jnp.asarray(draw(size=(30, 2)))
    return params, batch, np.asarray(batch[0].T @ batch[0]) / 30


def test_a_linear_models_surface_is_a_quadratic(quadratic):
    """Of the squared loss, from its value, gradient and Hessian at the centre alone."""
    params, batch, hessian = quadratic
    directions = [random_direction(linear, params, batch[0], jax.random.key(n)) for n in range(2)]
    assert all(not tree["bias"].any() for tree in directions)
    points = grid(np.linspace(-3, 3, 7), np.linspace(-2, 1, 4))
    found = loss_surface(linear, params, batch, directions, points, losses=squared)
    loss = curvature.batch_loss(linear, params, batch, loss=squared)
    slopes = np.array([jnp.vdot(jax.grad(loss)(params)["kernel"], tree["kernel"]) for tree in directions])
    kernels = [np.asarray(tree["kernel"]) for tree in directions]
    curves = np.array([[np.sum(a * (hessian @ b)) for b in kernels] for a in kernels])
    steps = np.asarray(points)
    expected = float(loss(params)) + steps @ slopes + np.einsum("...a,ab,...b->...", steps, curves, steps) / 2
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_a_linear_models_spectrum_is_known(quadratic):
    params, batch, hessian = quadratic
    loss = curvature.batch_loss(lambda p, x: x @ p, params["kernel"], batch, loss=squared)
    product, size = curvature.hessian_product(loss, params["kernel"])
    values, weights = curvature.lanczos(product, jax.random.normal(jax.random.key(0), (size,)), 5)
    np.testing.assert_allclose(values, np.linalg.eigvalsh(hessian), rtol=1e-5)  # each comes twice
    assert float(weights.sum()) == pytest.approx(1, abs=1e-6)


@pytest.fixture(scope="module")
def net(x64):
    model = cnnjax.build("resnet8", num_classes=4, width=2, dtype=jnp.float64, convolution="native")
    batch = jnp.asarray(draw(size=(5, 6, 6, 1))), jnp.array([0, 1, 2, 3, 0])
    variables = jax.jit(lambda key: model.init(key, batch[0], train=False))(jax.random.key(0))
    return model, variables, batch


def test_every_filter_has_the_networks_norm(net):
    model, variables, (images, _) = net
    draw_one = jax.jit(lambda variables: random_direction(model, variables, images, jax.random.key(1)))
    direction = by_path(draw_one(variables))
    for path, weight in by_path(variables["params"]).items():
        if path[-1] == "kernel":
            others = tuple(range(weight.ndim - 1))
            norms = [
                np.linalg.norm(np.reshape(x, (-1, x.shape[-1])), axis=0) for x in (direction[path], weight)
            ]
            np.testing.assert_allclose(norms[0], norms[1], rtol=1e-12)
            correlation = np.sum(direction[path] * weight, others) / norms[1] ** 2
            assert np.abs(correlation).max() < 0.9999
        else:  # BatchNorm's parameters and biases
            assert not direction[path].any()


def test_a_filter_scaled_beneath_batchnorm_changes_no_surface(net):
    """What the normalisation is for: without it, the larger filter has the flatter surface."""
    model, variables, batch = net
    scaled = jax.tree.map(lambda x: x, variables)
    scaled["params"]["conv1"]["kernel"] = 7 * variables["params"]["conv1"]["kernel"]
    points = np.linspace(-1, 1, 3)[:, None]
    # Not exactly: BatchNorm's epsilon is not scaled.
    model = model.clone(bn_epsilon=1e-12)

    @jax.jit
    def surface(variables):
        direction = random_direction(model, variables, batch[0], jax.random.key(1))
        return loss_surface(model, variables, batch, [direction], points, calibration=batch[0])

    np.testing.assert_allclose(surface(scaled), surface(variables), rtol=1e-8)


def test_many_at_once_are_each_by_itself(net):
    """Against a second path: the network applied to weights that were moved one by one."""
    model, variables, batch = net
    draw_one = jax.jit(lambda variables, key: random_direction(model, variables, batch[0], key))
    directions = [draw_one(variables, jax.random.key(n)) for n in range(2)]
    points = grid(np.linspace(-1, 1, 3), [0.0, 0.5])
    found = jax.jit(
        lambda v: loss_surface(model, v, batch, directions, points, at_once=4, samples_at_once=2)
    )(variables)

    @jax.jit
    def one(point):
        def move(leaf, a, b):
            return leaf + point[0] * a + point[1] * b

        moved = {**variables, "params": jax.tree.map(move, variables["params"], *directions)}
        logits = model.apply(moved, batch[0], train=False)
        return -jnp.take_along_axis(jax.nn.log_softmax(logits), batch[1][:, None], 1).mean()

    expected = np.array([[one(point) for point in row] for row in points])
    np.testing.assert_allclose(found, expected, rtol=1e-12)


OVER_A_MESH = """
import jax, jax.numpy as jnp, numpy as np, cnnjax
from cnnjax.probes import grid, loss_surface, random_direction

jax.config.update("jax_enable_x64", True)
draw = np.random.default_rng(0).normal
model = cnnjax.build("resnet8", num_classes=4, width=2, dtype=jnp.float64)
batch = jnp.asarray(draw(size=(5, 6, 6, 1))), jnp.array([0, 1, 2, 3, 0])
variables = model.init(jax.random.key(0), batch[0], train=False)
direction = random_direction(model, variables, batch[0], jax.random.key(1))
points = grid(np.linspace(-1, 1, 7))  # no multiple of the devices
mesh = cnnjax.make_mesh(data=2, model=2)
alone, divided = (
    jax.jit(lambda v: loss_surface(model, v, batch, [direction], points, batch[0], mesh=each))(variables)
    for each in (None, mesh)
)
assert len(divided.sharding.device_set) == 4
np.testing.assert_allclose(divided, alone, rtol=1e-12)
"""


@pytest.mark.slow
def test_four_devices_divide_the_points():
    flags = {"XLA_FLAGS": "--xla_force_host_platform_device_count=4", "PJRT_NPROC": "32"}
    subprocess.run([sys.executable, "-c", OVER_A_MESH], env={**os.environ, **flags}, check=True)


def test_a_mesh_of_one_device(quadratic):
    params, batch, _ = quadratic
    direction = random_direction(linear, params, batch[0], jax.random.key(0))
    points = grid(np.linspace(-1, 1, 3))
    found = [
        loss_surface(linear, params, batch, [direction], points, losses=squared, mesh=each)
        for each in (None, cnnjax.make_mesh(data=1))
    ]
    np.testing.assert_allclose(found[1], found[0], rtol=1e-12)


def test_averages_are_estimated_anew_at_each_point(net):
    model, variables, batch = net

    @jax.jit
    def both(variables):
        direction = random_direction(model, variables, batch[0], jax.random.key(1))
        found = loss_surface(model, variables, batch, [direction], [[0.5]], calibration=batch[0])
        moved = jax.tree.map(lambda leaf, step: leaf + step / 2, variables["params"], direction)
        return found, curvature.batch_loss(model, variables, batch, "batch")(moved)

    (found,), expected = both(variables)
    assert float(found) == pytest.approx(float(expected), rel=1e-12)


class Looped(nn.Module):
    """A scan over layers with a parameter of its own leading axis, an embedding, and a transposed weight."""

    @nn.compact
    def __call__(self, tokens):
        table = self.param("table", nn.initializers.normal(), (7, 4))
        kernels = self.param("kernels", nn.initializers.normal(), (3, 4, 4))
        turned = self.param("turned", nn.initializers.normal(), (5, 4))
        x, _ = jax.lax.scan(lambda x, kernel: (jnp.tanh(x @ kernel), None), table[tokens], kernels)
        return x @ turned.T


def test_the_axes_of_filters():
    tokens = jnp.array([0, 3, 6])
    model = Looped()
    variables = model.init(jax.random.key(0), tokens)
    assert filter_axes(model, variables, tokens) == {
        ("table",): (0,),
        ("kernels",): (0, 2),  # an axis of layers, and one of each one's units
        ("turned",): (0,),
    }


def test_stacked_variables(net):
    model, variables, (images, _) = net
    stacked = stack(variables)
    axes = filter_axes(model.clone(loop="scan"), stacked, images)
    assert axes == filter_axes(model, unstack(variables), images)
    assert set(axes) == {path for path in by_path(variables["params"]) if path[-1] == "kernel"}


@pytest.mark.parametrize(
    ("directions", "points", "message"),
    [([], [[]], "directions"), (["own"], [0.0, 1.0], r"points"), ([{"kernel": 0}], [[0.0]], "directions")],
)
def test_what_does_not_fit(quadratic, directions, points, message):
    params, batch, _ = quadratic
    directions = [params if each == "own" else each for each in directions]
    with pytest.raises(UserError, match=message):
        loss_surface(linear, params, batch, directions, points, losses=squared)


def test_sharpness_of_a_linear_and_of_a_convex_function():
    x, slope = jnp.asarray(draw(size=6)), jnp.asarray(draw(size=6))
    radius = 1e-3 * (jnp.abs(x) + 1)
    start = float(slope @ x)
    found = float(box_sharpness(lambda x: slope @ x + 10, x))
    assert found == pytest.approx(100 * float(jnp.abs(slope) @ radius) / (11 + start), rel=1e-9)
    quadratic = float(box_sharpness(lambda x: jnp.sum(x**2) / 2, x))
    corner = float(jnp.sum((jnp.abs(x) + radius) ** 2 - x**2) / 2)
    assert quadratic == pytest.approx(100 * corner / (1 + float(jnp.sum(x**2) / 2)), rel=1e-9)


def test_a_path_in_a_plane_is_found():
    a, b = np.linalg.qr(draw(size=(20, 2)))[0].T
    angles = np.linspace(0, 4, 12)
    flat = 3 * np.outer(np.cos(angles), a) + np.outer(np.sin(angles), b) + draw(size=20)
    found = principal_plane([{"x": row[:15].reshape(3, 5), "y": row[15:]} for row in flat])
    assert found.explained[:2].sum() == pytest.approx(1, abs=1e-12)
    np.testing.assert_allclose(found.coordinates[-1], 0, atol=1e-12)
    directions = np.stack([np.concatenate([tree["x"].ravel(), tree["y"]]) for tree in found.directions])
    np.testing.assert_allclose(directions @ directions.T, np.eye(2), atol=1e-12)
    np.testing.assert_allclose(flat[-1] + found.coordinates @ directions, flat, atol=1e-12)


def test_a_random_walk_looks_like_a_trajectory():
    """The closed form against the matrix that it is of, and 6 / pi^2 for long walks."""
    sums = np.tril(np.ones((9, 9)))
    centred = sums - sums.mean(0)
    variances = np.sort(np.linalg.eigvalsh(centred @ centred.T))[::-1][:8]
    np.testing.assert_allclose(random_walk_explained(9), variances / variances.sum(), rtol=1e-9)
    assert random_walk_explained(3_000)[:2] == pytest.approx(6 / np.pi**2 * np.array([1, 1 / 4]), rel=1e-3)
