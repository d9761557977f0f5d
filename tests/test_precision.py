"""A network of dtype float64 is float64 from end to end: weights, statistics, loss, optimizer, training."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.core import jaxprs_in_params

import cnnjax
from cnnjax.config import Config
from cnnjax.data.augment import normalizer
from cnnjax.data.synthetic import synthetic
from cnnjax.errors import UserError
from cnnjax.ops.norm import BatchNorm
from cnnjax.optimizers import learning_rate, make_optimizer
from cnnjax.probes import LayerProbe, curvature, sample_statistics
from cnnjax.probes.jacobian import nonlinearity_coefficient, singular_values
from cnnjax.training.step import init_state, make_train_step
from tests.counting import random_variables
from tests.nets import narrow
from tests.tasks import make_task


@pytest.fixture(autouse=True)
def x64():
    with jax.enable_x64(True):  # of this thread, and for the time of a test
        yield


def narrower(jaxpr):
    """What is computed in a floating-point type that is not float64, by the operations' names."""
    found = set()
    for equation in jaxpr.eqns:
        types = [getattr(var.aval, "dtype", np.dtype(int)) for var in equation.outvars]
        if any(jnp.issubdtype(dtype, jnp.floating) and dtype != jnp.float64 for dtype in types):
            found.add(equation.primitive.name)
        found.update(*map(narrower, jaxprs_in_params(equation.params)))
    return found


def check_float64(model, image):
    """A training step, from the random key to the new state, the metrics and what a probe measures."""
    model = model.clone(dtype=jnp.float64)
    images, config = np.zeros((2, *image), np.uint8), Config(weight_decay=0.1, decay="all")
    optimizer, normalize = make_optimizer(config), normalizer(images, "pixel_mean", np.float64)
    task = make_task(model, optimizer, normalize=normalize, probes=[LayerProbe()])
    step = make_train_step(task, optimizer, learning_rate(config), task.probes)

    def run(key):
        state = init_state(task, optimizer, key, jax.ShapeDtypeStruct((1, *image), np.float64))
        return step(state, images, np.zeros(2, int), key)

    with jax.enable_x64(True):
        traced, results = jax.make_jaxpr(run, return_shape=True)(jax.random.key(0))
    assert narrower(traced.jaxpr) == set()
    assert {leaf.dtype.name for leaf in jax.tree.leaves(results)} == {"float64", "int32"}


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        (
            "resnet8",
            {"stage_sizes": (1, 2), "survival": 0.5, "shortcut": "exclusive_gating", "bn_group_size": 1},
        ),
        ("fixup_resnet8", {"stage_sizes": (1, 2), "activation": "prelu"}),
        ("se_resnet8", {"stage_sizes": (2,)}),
        ("densenet_bc40_12", {"block_sizes": (2, 2)}),
        ("alexnet_cifar", {}),
        ("cuda_convnet_11pct", {}),
        ("lenet5", {}),
        ("highway10", {}),
    ],
)
def test_nothing_in_a_training_step_is_float32(name, fields):
    model, image = narrow(name)
    check_float64(model.clone(**fields), image)


def test_batch_norm_is_float64_where_its_input_or_its_result_is():
    x = np.random.default_rng(0).normal(100, 1e-3, (64, 3))  # in float32 the deviation would be off by 1 %
    for norm in (BatchNorm(False), BatchNorm(False, dtype=jnp.float64)):
        y, _ = norm.init_with_output(jax.random.key(0), jnp.asarray(x))
        expected = (x - x.mean(0)) / np.sqrt(x.var(0) + 1e-5)
        np.testing.assert_allclose(y, expected, rtol=1e-9 if norm.dtype == jnp.float64 else 1e-6, atol=1e-7)
    y, new = norm.apply(norm.init(jax.random.key(0), x), x, mutable=["batch_stats"])
    assert y.dtype == jnp.float64
    np.testing.assert_allclose(new["batch_stats"]["var"], 0.9 + 0.1 * x.var(0, ddof=1), rtol=1e-12)


def test_a_gradient_is_that_of_finite_differences():
    """To eleven digits, which float32 anywhere on the way would not leave."""
    model = cnnjax.build("resnet8", width=2, stage_sizes=(1, 1), dtype="float64", activation="tanh")
    variables = jax.tree.map(lambda leaf: leaf.astype(float), random_variables(model, (6, 6, 3)))
    draw = np.random.default_rng(0).normal
    images, labels = draw(size=(4, 6, 6, 3)), jnp.array([0, 1, 2, 3])
    direction = jax.tree.map(lambda leaf: draw(size=leaf.shape), variables["params"])
    loss = curvature.batch_loss(model, variables, (images, labels))

    def along(distance):
        return loss(jax.tree.map(lambda w, d: w + distance * d, variables["params"], direction))

    @jax.jit
    def slopes(step):
        near, far = (along(k * step) - along(-k * step) for k in (1, 2))
        return jax.jvp(along, (0.0,), (1.0,))[1], (8 * near - far) / (12 * step)

    exact, estimate = map(float, slopes(1e-4))
    assert exact == pytest.approx(estimate, rel=1e-9)


def test_probes_measure_in_float64():
    model = cnnjax.build("resnet8", width=2, stage_sizes=(1,), dtype="float64")
    images, labels = jnp.ones((2, 4, 4, 3)), jnp.array([0, 1])

    def measure(key):
        variables = model.init(key, images, train=False)
        product, size = curvature.hessian_product(
            curvature.batch_loss(model, variables, (images, labels)), variables["params"]
        )
        return (
            sample_statistics(model, variables, (images, labels)),
            singular_values(model, variables, images),
            nonlinearity_coefficient(model, variables, images),
            curvature.spectrum(product, size, key, steps=2, draws=1),
            curvature.trace(product, size, key, draws=2),
        )

    traced, results = jax.make_jaxpr(measure, return_shape=True)(jax.random.key(0))
    assert narrower(traced.jaxpr) == set()
    assert {leaf.dtype.name for leaf in jax.tree.leaves(results)} == {"float64"}


def test_training(tmp_path):
    """Weights and momentum on disk too: a run that goes on ends with the same bits."""
    config = Config(
        model="resnet8", model_options={"width": 1, "stage_sizes": [1]}, dtype="float64", data="synthetic",
        steps=2, batch_size=4, boundaries=(), evaluate_every=2, checkpoint_every=1,
    )  # fmt: skip
    data = synthetic(train=8, test=4, size=6)
    result = cnnjax.train(config, tmp_path, data=data)
    assert {leaf.dtype.name for leaf in jax.tree.leaves(result.variables)} == {"float64"}
    kernel = np.asarray(result.variables["params"]["classifier"]["kernel"])
    assert (kernel != kernel.astype(np.float32)).any()
    again = cnnjax.train(config, tmp_path, data=data, resume=1)
    jax.tree.map(np.testing.assert_array_equal, again.variables, result.variables)
    with jax.enable_x64(False):
        for call in (
            lambda: cnnjax.train(config, tmp_path / "narrow", data=data),
            lambda: cnnjax.build("resnet8", dtype="float64"),
        ):
            with pytest.raises(UserError, match="JAX computes in float32 here; set JAX_ENABLE_X64=1"):
                call()
    assert not (tmp_path / "narrow" / "config.json").exists()
