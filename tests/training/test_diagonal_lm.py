"""LeNet-5's optimizer by a config; papers/test_every_recipe.py stops and resumes a run with it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax.config import Config
from cnnjax.errors import UserError
from cnnjax.models.lenet5 import CODES
from cnnjax.recipes import resolve
from tests.test_second_order import brute_force

LENET = {
    "model": "lenet5", "model_options": {"padding": 8}, "data": "synthetic", "loss": "map",
    "optimizer": "diagonal_lm", "optimizer_options": {"every": 3, "samples": 4}, "augment": "none",
    "normalize": "none", "schedule": "constant", "learning_rate": 5e-4, "weight_decay": 0.0, "batch_size": 1,
}  # fmt: skip


@pytest.mark.slow
def test_a_config_takes_the_curvature_of_its_task():
    """That of four images at equal distances, with the criterion of equation 9 as a function of F6."""
    task = resolve(Config(**LENET))
    images, labels = task.data.train_images, task.data.train_labels
    params = task.network.init(jax.random.key(0), task.normalize(images[:1]))["params"]
    optimizer = task.optimizer(5e-4, 0.0)
    gradients = jax.tree.map(jnp.ones_like, params)
    updates, _ = optimizer.update(gradients, optimizer.init(params), params)
    path = ("f6", "bias")

    def outputs(part, image):
        whole = {**params, path[0]: {**params[path[0]], path[1]: part}}
        _, new = task.network.source.apply(
            {"params": whole}, task.normalize(image[None]), train=False, mutable=["features"]
        )
        return new["features"]["output"]["f6"][0][0]

    def criterion(f6, label):
        distances = jnp.square(f6 - CODES).sum(-1)
        return distances[label] + jnp.logaddexp(-1.0, jax.nn.logsumexp(-distances))

    part = params[path[0]][path[1]]
    each = [
        brute_force(lambda p, i=i: outputs(p, images[i]), lambda f6, i=i: criterion(f6, labels[i]), part)
        for i in np.arange(4) * len(images) // 4
    ]
    expected = -5e-4 / (0.02 + np.mean(each, 0))
    np.testing.assert_allclose(updates[path[0]][path[1]], expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"model": "resnet8", "model_options": {}, "loss": "cross_entropy"}, "this one has batch_stats too"),
        ({"groups": {"*/bias": {"rate": 2}}}, "takes all parameters together"),
        ({"optimizer_options": {"every": 3, "samples": 10**6}}, "must be from 1 to the"),
        ({"optimizer_options": {}}, "needs every: give optimizer_options every=VALUE"),
    ],
)
def test_what_cannot_be_is_told(fields, message):
    with pytest.raises(UserError, match=message):
        resolve(Config(**{**LENET, **fields}))
