"""SGD, BatchNorm and two training steps of ResNet-20 against PyTorch's stored numbers.

tests/reference/make_torch_reference.py made them, and says how.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax.traverse_util import flatten_dict, unflatten_dict

from cnnjax.config import Config
from cnnjax.models import build, stack, unstack
from cnnjax.ops.norm import BatchNorm
from cnnjax.optimizers import learning_rate, make_optimizer
from cnnjax.training.step import State, make_train_step
from tests.counting import trace
from tests.reference.make_torch_reference import (
    FILE,
    LEARNING_RATES,
    batch_norm_inputs,
    resnet20_inputs,
    sgd_inputs,
)
from tests.tasks import make_task


@pytest.fixture(scope="module")
def torch():
    with np.load(FILE) as file:
        return dict(file)


def test_sgd_with_a_drop_of_the_rate(torch):
    config = Config(steps=3, boundaries=(2,))
    np.testing.assert_allclose([learning_rate(config)(step) for step in range(3)], LEARNING_RATES, rtol=1e-6)
    weight, gradients = sgd_inputs()
    params = {"kernel": jnp.asarray(weight)}
    optimizer = make_optimizer(config)
    state = optimizer.init(params)
    for step, gradient in enumerate(gradients):
        updates, state = optimizer.update({"kernel": jnp.asarray(gradient)}, state, params)
        params = optax.apply_updates(params, updates)
        np.testing.assert_allclose(params["kernel"], torch[f"sgd/{step}"], rtol=1e-5, atol=1e-6)


def test_batch_norm(torch):
    batches, scale, bias, upstream = batch_norm_inputs()
    norm = BatchNorm(use_running_average=False)
    params = {"scale": jnp.asarray(scale), "bias": jnp.asarray(bias)}
    stats = {"mean": jnp.zeros(5), "var": jnp.ones(5)}
    for x in batches:

        def apply(params, x, stats=stats):
            return norm.apply({"params": params, "batch_stats": stats}, x, mutable=["batch_stats"])

        y, backward, new = jax.vjp(apply, params, jnp.asarray(x), has_aux=True)
        stats = new["batch_stats"]
    params_gradient, input_gradient = backward(jnp.asarray(upstream))
    np.testing.assert_allclose(y, torch["batch_norm/output"], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(input_gradient, torch["batch_norm/input_gradient"], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(params_gradient["scale"], torch["batch_norm/scale_gradient"], rtol=1e-4)
    np.testing.assert_allclose(stats["mean"], torch["batch_norm/mean"], rtol=1e-5)
    np.testing.assert_allclose(stats["var"], torch["batch_norm/var"], rtol=1e-5)


def test_two_steps_of_resnet20(torch, x64):
    """Ours in float64, so that no ReLU of ours falls to the other side on another processor."""
    model = build("resnet20", dtype="float64", loop="scan")
    shapes = trace(model, (16, 16, 3))
    params, images, labels = resnet20_inputs(
        {path: value.shape for path, value in flatten_dict(shapes["params"], sep="/").items()}
    )
    params = unflatten_dict({path: jnp.asarray(value, float) for path, value in params.items()}, sep="/")
    stats = jax.tree.map_with_path(
        lambda path, value: jnp.full(value.shape, path[-1].key == "var", value.dtype), shapes["batch_stats"]
    )
    config = Config(decay="all")
    optimizer = make_optimizer(config)
    carried = {"batch_stats": stats}
    state = stack(State(jnp.zeros((), jnp.int32), params, carried, optimizer.init(params)))
    step = jax.jit(make_train_step(make_task(model, optimizer), optimizer, learning_rate(config)))
    losses = []
    for x, y in zip(images, labels, strict=True):
        state, metrics, _ = step(state, jnp.asarray(x), jnp.asarray(y), jax.random.key(0))
        losses.append(metrics["train_loss"])
    np.testing.assert_allclose(losses, torch["resnet20/losses"], rtol=1e-4)
    for kind, tree in unstack(state).variables.items():
        for path, value in flatten_dict(tree, sep="/").items():
            reference = torch[f"resnet20/{kind}/{path}"]
            scale = np.abs(reference).max()
            np.testing.assert_allclose(value, reference, rtol=1e-4, atol=1e-4 * scale, err_msg=path)
