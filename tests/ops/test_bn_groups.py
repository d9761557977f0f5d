import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax.errors import UserError
from cnnjax.models import build
from cnnjax.ops.norm import BatchNorm
from tests.counting import random_variables


def test_groups_are_batches_by_themselves(key):
    """Outputs, gradients and, averaged over the groups, running statistics."""
    x, weight = jax.random.normal(key, (2, 12, 4, 4, 5))
    variables = {
        "params": {"scale": jnp.arange(1.0, 6), "bias": jnp.arange(5.0)},
        "batch_stats": {"mean": jnp.full(5, 2.0), "var": jnp.full(5, 3.0)},
    }

    @jax.jit
    def run(x, weight, size=None):
        norm = BatchNorm(use_running_average=False, group_size=size)

        def objective(params, x):
            y, new = norm.apply({**variables, "params": params}, x, mutable=["batch_stats"])
            return (y * weight).sum(), (y, new["batch_stats"])

        grads, (y, stats) = jax.grad(objective, (0, 1), has_aux=True)(variables["params"], x)
        return grads, y, stats

    (params, by_x), y, stats = jax.jit(lambda x, weight: run.__wrapped__(x, weight, 4))(x, weight)
    parts = [run(x[first : first + 4], weight[first : first + 4]) for first in (0, 4, 8)]
    alone = jax.tree.map(lambda *values: np.stack(values), *parts)
    (their_params, their_by_x), their_y, their_stats = alone
    close = {"rtol": 1e-5, "atol": 1e-5}
    np.testing.assert_allclose(y, their_y.reshape(x.shape), **close)
    np.testing.assert_allclose(by_x, their_by_x.reshape(x.shape), **close)
    jax.tree.map(
        lambda ours, theirs: np.testing.assert_allclose(ours, theirs.sum(0), **close), params, their_params
    )
    jax.tree.map(
        lambda ours, theirs: np.testing.assert_allclose(ours, theirs.mean(0), **close), stats, their_stats
    )
    assert np.ptp(their_stats["var"], 0).min() > 1e-3  # or it would not matter


def test_a_network_with_groups_is_the_network_on_each_part(key):
    images = jax.random.normal(key, (4, 8, 8, 3))
    nets = [build("resnet8", width=2, stage_sizes=(1, 1), bn_group_size=size) for size in (None, 2)]
    variables = random_variables(nets[0], images.shape[1:])
    one, two = (
        jax.jit(lambda x, net=net: net.apply(variables, x, True, mutable=["batch_stats"])) for net in nets
    )
    logits, new = two(images)
    parts = [one(images[:2]), one(images[2:])]
    np.testing.assert_allclose(logits, np.concatenate([part[0] for part in parts]), rtol=1e-4, atol=1e-5)
    mean = jax.tree.map(lambda *stats: sum(stats) / 2, *(part[1] for part in parts))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), new, mean)
    with pytest.raises(UserError, match="a batch of 3 images does not divide into groups of bn_group_size=2"):
        two(images[:3])
    with pytest.raises(UserError, match="bn_group_size=0: must be at least 1"):
        build("vgg11_bn", bn_group_size=0)
